"""Webdataset tars: samples are runs of members with one key, whose captions are text or JSON members."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from tarfile import EOFHeaderError  # type: ignore[attr-defined]
from typing import IO, Any, Self

from regionclip.captions.lines import missing_column, parse_object
from regionclip.captions.rows import ReadingConfig, Rejected, Row

MAX_MEMBER = 1 << 20  # bytes of a text or JSON member, and of the headers of any
_TEXTS = ("txt", "json")
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def read_webdataset(file: io.BufferedIOBase, config: ReadingConfig) -> Iterator[Row | Rejected]:
    """The caption of each sample: `config.column` of its .json, else its .txt. Nothing is extracted.

    Raises tarfile.ReadError for a damaged archive, one without its end included.
    """
    sample = _Sample("")
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
            if key != sample.key:
                yield from sample.rows(config)
                sample = _Sample(key)
            sample.add(extension, member.size, tar.extractfile(member))
        yield from sample.rows(config)
        if not isinstance(tar.end, EOFHeaderError):
            raise tarfile.ReadError(f"the archive has no end: {tar.end}")


@dataclass
class _Sample:
    """The members of one key so far, by extension; contents of text and JSON ones only."""

    key: str
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
        """Its caption or why it has none; nothing when no member has come."""
        if not self.members:
            return
        place, record = f": {self.key}", self._record()
        reason = record if isinstance(record, str) else missing_column(list(record), config)
        if self.reason:
            yield Rejected(place, self.reason)
        elif isinstance(record, dict) and not reason:
            yield Row(place, record[config.column], identity=config.id_column and record[config.id_column])
        elif "txt" in self.members and config.id_column is None:
            yield Row(place, self.members["txt"])
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
    return "" if member.isfile() else "not a plain file"


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

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _HEADERS and header.size > MAX_MEMBER:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes, more than {MAX_MEMBER:,}")
        return header
