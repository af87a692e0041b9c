"""What a running pipeline shows: a bar on a terminal, now and then a line elsewhere, one line a finished stage."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_SECONDS = 5.0


class Display:
    """The progress of one stage at a time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name, self._total = "", 0
        self._shown = 0.0
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def start(self, name: str) -> None:
        """Begin to show a stage."""
        self._name, self._total, self._shown = name, 0, time.monotonic()
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[latest]}"), console=self._console, transient=True)
            self._task = self._bar.add_task(name, total=None, latest="")
            self._bar.start()

    def advance(self, done: int, total: int, unit: str) -> None:
        """Show that `done` of `total` units are finished."""
        self._total = total
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        self._line(f"{done:,}/{total:,} {unit}")

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Show the newest metrics of a step; of a training, whose total `advance` has told, also how far it is."""
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=step, latest=numbers)
        self._line(f"step {step:,}{f'/{self._total:,}' if self._total else ''}  {numbers}")

    def say(self, text: str) -> None:
        """A line about the running stage that stays."""
        self._console.print(f"  {self._name}: {text}", markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def done(self, name: str, key: str, outcome: str, marks: tuple[str, ...] = ()) -> None:
        """The line that stays: the stage, the first digits of its key, and what came of it."""
        marked = f"  [{', '.join(marks)}]" if marks else ""
        self._console.print(f"{name:<18} {key[:8]}  {outcome}{marked}", markup=False, highlight=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        if self._bar is None and time.monotonic() - self._shown > LINE_SECONDS:
            self._shown = time.monotonic()
            self._console.print(f"  {self._name}  {text}", markup=False, highlight=False, soft_wrap=True)
