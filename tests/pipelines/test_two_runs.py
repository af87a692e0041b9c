"""Two runs that want the same key, through the command line: one works, the other waits or says who holds it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipelines.lock import LOCKS, locked
from pipelines.runner import NoTracker
from pipelines.store import list_artifacts
from stages.contract import Artifact
from stages.storage import Folder

Run = Callable[..., Any]


@pytest.fixture
def labels(store: Path) -> Artifact:
    """The labels that both runs want."""
    made = list_artifacts(Folder(str(store)), "region_labels")
    (found,) = (each for each in made if each.manifest["config"]["candidates"] == "captions")
    return found


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this machine."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def hold(store: Path, labels: Artifact, **owner: Any) -> Path:
    """Write the lock of another owner; where it is."""
    path = store / LOCKS / f"{labels.kind}-{labels.key}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"host": socket.gethostname(), "token": "other", "since": "noon", "beat": 4e9, **owner}))
    return path


def started(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]


def test_the_second_run_waits_and_reuses_what_the_first_made(
    run: Run, store: Path, labels: Artifact, other: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "being made"
    shutil.move(labels.folder.uri, elsewhere)
    lock = hold(store, labels, pid=other.pid, started=started(other.pid))
    slept: list[float] = []

    def finish(seconds: float) -> None:
        slept.append(seconds)
        shutil.move(elsewhere, labels.folder.uri)
        lock.unlink()

    monkeypatch.setattr("pipelines.runner.locked", partial(locked, sleep=finish))
    done = run("label")
    assert (done.code, slept) == (0, [1.0])
    assert f"label_regions      {labels.key[:8]}  reused" in done.out
    (said,) = done.err.splitlines()
    assert said.startswith(f"region_labels/{labels.key} is being made by process {other.pid} on ")
    assert said.endswith("since noon; waiting for it (Ctrl-C stops waiting)")


def test_the_second_run_makes_what_a_dying_first_one_did_not(
    run: Run, store: Path, labels: Artifact, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels.folder.clear()
    lock = hold(store, labels, pid=other.pid, started=started(other.pid))

    def die(seconds: float) -> None:
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)

    monkeypatch.setattr("pipelines.runner.locked", partial(locked, sleep=die))
    done = run("label")
    assert done.code == 0
    assert f"label_regions      {labels.key[:8]}  reused" not in done.out
    assert labels in list_artifacts(Folder(str(store)))
    assert not lock.exists()


def test_ctrl_c_stops_waiting_and_nothing_else(
    run: Run, store: Path, labels: Artifact, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels.folder.clear()
    lock = hold(store, labels, pid=other.pid, started=started(other.pid))

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.runner.locked", partial(locked, sleep=interrupt))
    stopped = run("label")
    assert stopped.code == 1
    waiting, interrupted = stopped.err.splitlines()
    assert waiting.endswith("(Ctrl-C stops waiting)")
    assert interrupted.startswith("interrupted; nothing finished is lost")
    assert lock.exists()
    assert other.poll() is None


def test_an_owner_on_another_machine_is_named_and_is_no_fault_of_the_user(
    run: Run, store: Path, labels: Artifact
) -> None:
    labels.folder.clear()
    hold(store, labels, host="another machine", pid=7, started="1")
    refused = run("label")
    assert refused.code == 1
    assert refused.err == (
        f"error: region_labels/{labels.key} is being made by process 7 on another machine since noon; wait for it, or "
        "stop it and run again\n"
    )


def test_the_tracking_store_is_opened_by_one_run_at_a_time(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut_out: list[bool] = []

    def open_store(*arguments: object) -> NoTracker:
        with (store / LOCKS / ".tracking").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shut_out.append(False)
            except BlockingIOError:
                shut_out.append(True)
        return NoTracker()

    monkeypatch.setattr("pipelines.tracking.MlflowTracker", open_store)
    assert run("label").code == 0
    assert shut_out == [True]
