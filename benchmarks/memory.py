"""The most memory that the processes of a run held."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

_SAMPLE_SECONDS, _SAMPLES_A_TOTAL = 0.5, 8


class PeakMemory:
    """The most memory, in MB, that this process, any of its Ray workers, and it with all its children held.

    Of one process it is the peak that the kernel keeps, shared libraries included. Of all together it is the
    proportional set size, which counts a page that processes share once, sampled: reading it costs the kernel 6 ms a
    process, so it is read seldom, or the work would have less of the cores. Ray's own servers and idle workers count in
    it alone.
    """

    def __init__(self) -> None:
        self.driver_mb = self.worker_mb = self.tree_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def process_mb(self) -> float:
        """The most that this process or one of its workers held."""
        return max(self.driver_mb, self.worker_mb)

    def stop(self) -> None:
        """Read once more and end."""
        self._stop.set()
        self._thread.join()
        self._read(total=True)

    def _watch(self) -> None:
        for number in itertools.count():
            if self._stop.wait(_SAMPLE_SECONDS):
                return
            self._read(total=number % _SAMPLES_A_TOTAL == 0)

    def _read(self, total: bool) -> None:
        processes = list(process_tree("self"))
        peaks = [_mb(each, "status", "VmHWM:") for each in processes if _is_worker(each)]
        self.driver_mb = max(self.driver_mb, _mb("self", "status", "VmHWM:"))
        self.worker_mb = max(self.worker_mb, *peaks, 0.0)
        if total:
            self.tree_mb = max(self.tree_mb, sum(_mb(each, "smaps_rollup", "Pss:") for each in processes))


def process_tree(root: str) -> Iterator[str]:
    """The id of a process, and of all that it started and they started."""
    yield root
    for task in Path(f"/proc/{root}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from process_tree(child)


def _mb(process: str, file: str, name: str) -> float:
    try:
        lines = Path(f"/proc/{process}/{file}").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def _is_worker(process: str) -> bool:
    """Whether a process is a Ray worker that holds an actor of a stage."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return False
    return process != "self" and ("_Actor" in command or "MapWorker" in command)
