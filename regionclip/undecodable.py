"""Text that came from bytes which are not UTF-8, such as names of files: telling it, and printing it."""

from __future__ import annotations


def is_utf8(text: str) -> bool:
    """Whether the bytes that a text stands for are UTF-8, so that any table can hold it."""
    return text.encode("utf-8", "ignore").decode() == text


def printable(text: str) -> str:
    """The same text with bytes that are not UTF-8 written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
