"""What an operating system or a server says when a place cannot be read or written, in words for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PlaceError(OSError):
    """A disk or server does not do what it is asked: no fault of the file, and the same may succeed later."""


@contextmanager
def reading(target: str) -> Iterator[None]:
    """Say of an operating system's error what could not be read: a ValueError where the file is not there to be read,
    else a PlaceError, after which the same may succeed."""
    try:
        yield
    except PlaceError:
        raise
    except FileNotFoundError as error:
        raise ValueError(f"{target} does not exist") from error
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise ValueError(f"{target} cannot be read ({error})") from error
    except OSError as error:
        raise PlaceError(f"{target} cannot be read ({error}); run again when the place is well") from error


@contextmanager
def writing(target: str) -> Iterator[None]:
    """Say of an operating system's error what could not be written: a ValueError where none may be, else a
    PlaceError."""
    try:
        yield
    except (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ValueError(f"{target} cannot be written ({error}); choose another place") from error
    except OSError as error:
        raise PlaceError(f"{target} cannot be written ({error}); free or choose another place") from error
