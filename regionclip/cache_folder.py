"""Where this machine keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """RGC_CACHE, or ~/.cache/rgc; it need not exist."""
    return Path(os.environ.get("RGC_CACHE") or "~/.cache/rgc").expanduser()
