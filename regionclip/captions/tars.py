"""Webdataset tars: samples are runs of members with one key; their captions are text or JSON members."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from tarfile import EOFHeaderError  # type: ignore[attr-defined]
from typing import IO, Any, NamedTuple, Self

from regionclip.captions.lines import missing_column, parse_object
from regionclip.captions.rows import ReadingConfig, Rejected, Row

MAX_MEMBER = 1 << 20  # bytes of a text or JSON member, and of the headers of any
_TEXTS = ("txt", "json")
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class NoEnd(tarfile.ReadError):
    """An archive that breaks off between two members, so that those before are whole."""


class Member(NamedTuple):
    """A plain file of an archive, to be read before the next one is asked for.

    sample: the number, from 0, of the run of members with this key. offset: where its bytes begin in the archive.
    """

    sample: int
    key: str
    extension: str
    name: str
    offset: int
    size: int
    file: IO[bytes]


def read_members(file: io.BufferedIOBase) -> Iterator[Member | Rejected]:
    """The members of an archive in order. Nothing is extracted.

    Raises tarfile.ReadError for a damaged archive, one without its end included.
    """
    sample, last = -1, None
    tar: Any
    with tarfile.open(fileobj=file, mode="r|", tarinfo=_Header) as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # else the list grows with the archive
            if member.isdir():
                continue
            reason = _unfit(member)
            if reason:
                yield Rejected(f": {member.name}", reason)
                continue
            key, extension = _key(member.name)
            if key != last:
                sample, last = sample + 1, key
            content = tar.extractfile(member)
            yield Member(sample, key, extension, member.name, member.offset_data, member.size, content)
        end = getattr(tar, "end", None)
        if end is None:  # `next` was led back to 0, which it takes for the end
            raise tarfile.ReadError("a member has a negative size")
        if not isinstance(end, EOFHeaderError):
            raise NoEnd(f"the archive has no end: {end}")


def read_webdataset(file: io.BufferedIOBase, config: ReadingConfig) -> Iterator[Row | Rejected]:
    """The caption of each sample: `config.column` of its .json, else its .txt; errors of `read_members`."""
    sample: _Sample | None = None
    try:
        for member in read_members(file):
            if isinstance(member, Rejected):
                yield member
                continue
            if sample is None or member.sample != sample.number:
                yield from () if sample is None else sample.rows(config)
                sample = _Sample(member.key, member.sample)
            sample.add(member.extension, member.size, member.file)
    except NoEnd:
        yield from () if sample is None else sample.rows(config)
        raise
    yield from () if sample is None else sample.rows(config)


@dataclass
class _Sample:
    """The members of one key so far, by extension; contents of text and JSON ones only."""

    key: str
    number: int
    members: dict[str, bytes] = field(default_factory=dict)
    reason: str = ""

    def add(self, extension: str, size: int, file: IO[bytes]) -> None:
        content = b""
        if extension in _TEXTS and size > MAX_MEMBER:
            self.reason = f".{extension} has {size:,} bytes, more than {MAX_MEMBER:,}"
        elif extension in _TEXTS:
            content = file.read()
        if extension in self.members:
            self.reason = f".{extension} stands twice"
        self.members[extension] = content

    def rows(self, config: ReadingConfig) -> Iterator[Row | Rejected]:
        """Its caption or why it has none."""
        place, record = f": {self.key}", self._record()
        reason = record if isinstance(record, str) else missing_column(list(record), config)
        if self.reason:
            yield Rejected(place, self.reason)
        elif isinstance(record, dict) and not reason:
            identity = config.id_column and record[config.id_column]
            yield Row(place, record[config.column], identity=identity, number=self.number)
        elif "txt" in self.members and config.id_column is None:
            yield Row(place, self.members["txt"], number=self.number)
        else:
            yield Rejected(place, reason)

    def _record(self) -> dict[str, object] | str:
        if "json" in self.members:
            return parse_object(self.members["json"])
        if "txt" in self.members:
            return "no .json, which would hold the id"
        return f"no caption among its members: {', '.join(f'.{name}' for name in sorted(self.members))}"


def _unfit(member: tarfile.TarInfo) -> str:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "a name that leaves the archive's folder"
    return "" if member.isfile() and not member.issparse() else "not a plain file"


def _key(name: str) -> tuple[str, str]:
    """A member's key, up to the first dot of the last part of its name, and its extension after it."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()


class _Header(tarfile.TarInfo):
    """A member that tells its archive how the last attempt to read a header ended, and refuses a huge header."""

    @classmethod
    def fromtarfile(cls, tarfile_: Any) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            tarfile_.end = error
            raise
        except RecursionError as error:
            raise tarfile.ReadError("too many headers of one member") from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _HEADERS and header.size > MAX_MEMBER:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes, more than {MAX_MEMBER:,}")
        return header
