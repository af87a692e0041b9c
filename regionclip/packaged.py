"""Weights that come with the package, for the pictogram scenes."""

from __future__ import annotations

from pathlib import Path

PREFIX = "rgc:"
FOLDER = Path(__file__).parent / "weights"


def packaged_weights(name: str) -> Path | None:
    """The folder of `rgc:NAME`; None for any other text. Raises ValueError for a name that is not there."""
    if not name.startswith(PREFIX):
        return None
    known = sorted(path.name for path in FOLDER.iterdir() if path.is_dir()) if FOLDER.is_dir() else []
    if name.removeprefix(PREFIX) not in known:
        shown = ", ".join(PREFIX + each for each in known) or "none"
        raise ValueError(f"'{name}' is not among the packaged weights ({shown}); choose one or give a file")
    return FOLDER / name.removeprefix(PREFIX)
