"""What a training loop is lent by the place it runs in: its rank, a device, a log and checkpoints."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

_CHECKPOINT = re.compile(r"step-(\d+)\.pt")


class Session(Protocol):
    """One process of a training, of `world_size` that run the same loop.

    `log` and `save` are called by every rank, equally often and at the same steps; rank 0's values count.
    `state` holds tensors, numbers, strings, and lists and dicts of them: what `torch.load(weights_only=True)` reads.
    """

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Report metrics after `step` finished optimizer steps."""
        ...

    def restore(self) -> dict[str, Any] | None:
        """The state of the newest checkpoint, on the CPU; None at a fresh start."""
        ...

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Keep the state after `step` finished optimizer steps, in place of any older one."""
        ...


class LocalSession:
    """One plain process; `folder` keeps the newest checkpoint; None keeps it in memory.

    A checkpoint appears under its final name only when it is whole.
    """

    def __init__(
        self,
        folder: Path | None = None,
        device: torch.device | str = "cpu",
        log: Callable[[Mapping[str, float], int], None] | None = None,
    ) -> None:
        self.rank = 0
        self.world_size = 1
        self.device = torch.device(device)
        self._folder = folder
        self._log = log
        self._state: dict[str, Any] | None = None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if self._log is not None:
            self._log(metrics, step)

    def restore(self) -> dict[str, Any] | None:
        if self._folder is None:
            return self._state
        checkpoints = _checkpoints(self._folder)
        return read_state(checkpoints[max(checkpoints)]) if checkpoints else None

    def save(self, step: int, state: dict[str, Any]) -> None:
        if self._folder is None:
            self._state = copy.deepcopy(state)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        older = _checkpoints(self._folder)
        write_state(state, self._folder / f"step-{step:08d}.pt")
        for old_step, path in older.items():
            if old_step != step:
                path.unlink()


def write_state(state: dict[str, Any], path: Path) -> None:
    """Write a state so that `path` either does not exist or is whole, also after a power cut."""
    partial = path.with_suffix(f".partial-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_state(path: Path) -> dict[str, Any]:
    """Read a written state onto the CPU; code in the file is never run."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _checkpoints(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    matches = ((path, _CHECKPOINT.fullmatch(path.name)) for path in folder.iterdir())
    return {int(match.group(1)): path for path, match in matches if match}
