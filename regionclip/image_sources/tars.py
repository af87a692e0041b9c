"""Images in webdataset tars, one a sample."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field

from regionclip.captions.rows import Rejected
from regionclip.captions.tars import Member, NoEnd, read_members
from regionclip.image_sources.found import Found, too_large
from regionclip.image_sources.places import TarMember

EXTENSIONS = frozenset(
    ("avif", "bmp", "gif", "jfif", "jpeg", "jpg", "jp2", "pbm", "pgm", "png", "ppm", "tif", "tiff", "webp")
)


def read_tar(stream: io.BufferedIOBase, name: str, extension: str | None) -> Iterator[Found | Rejected]:
    """The image of each sample: its member with this extension, or the only one with an extension of images.

    A rejected one's place is what stands after the name of the tar. Raises tarfile.ReadError for a damaged archive.
    """
    wanted = EXTENSIONS if extension is None else {extension.lower()}
    sample: _Sample | None = None
    try:
        for member in read_members(stream):
            if isinstance(member, Rejected):
                yield member
                continue
            if sample is None or member.sample != sample.number:
                yield from () if sample is None else (sample.image(),)
                sample = _Sample(member.sample, member.key)
            sample.add(member, name, wanted)
    except NoEnd:
        yield from () if sample is None else (sample.image(),)
        raise
    yield from () if sample is None else (sample.image(),)


@dataclass
class _Sample:
    """The members of one key so far; of its images the first."""

    number: int
    key: str
    found: Found | Rejected | None = None
    extensions: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)

    def add(self, member: Member, name: str, wanted: frozenset[str] | set[str]) -> None:
        self.extensions.append(f".{member.extension}")
        if member.extension not in wanted:
            return
        self.images.append(f".{member.extension}")
        if len(self.images) > 1:
            return
        reason = too_large(member.size)
        if reason:
            self.found = Rejected(f"::{member.name}", reason)
            return
        place = TarMember(name, member.name, member.offset, member.size)
        self.found = Found(self.number, str(place), f"{name}::{member.name}", member.file.read(), self.key)

    def image(self) -> Found | Rejected:
        if self.found is None:
            return Rejected(f"::{self.key}", f"no image among its members: {', '.join(self.extensions)}")
        if len(self.images) > 1:
            return Rejected(f"::{self.key}", f"{len(self.images)} images, {', '.join(self.images)}; set image_column")
        return self.found
