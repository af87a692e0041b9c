"""Who may write an artifact when processes end badly, and what a lock does on a store that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from pipelines import lock
from pipelines.lock import LOCKS, HeldError, locked
from pipelines.store import artifact_of
from stages.contract import Artifact
from stages.storage import Folder


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "store"))


def artifact(store: Folder) -> Artifact:
    return artifact_of(store, "count", "abc")


def lock_file(store: Folder) -> Path:
    return Path(store.uri, LOCKS, "count-abc.json")


def hold_in_another_process(store: Folder) -> subprocess.Popen[str]:
    program = (
        "import sys; from pipelines.lock import locked; from pipelines.store import artifact_of\n"
        "from stages.storage import Folder; store = Folder(sys.argv[1])\n"
        "with locked(store, artifact_of(store, 'count', 'abc')): print('held', flush=True); sys.stdin.read()"
    )
    path = {**os.environ, "PYTHONPATH": str(Path(lock.__file__).parents[1])}
    holder = subprocess.Popen(
        [sys.executable, "-c", program, store.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=path
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_living_holder_is_named_once_and_waited_for(store: Folder) -> None:
    holder = hold_in_another_process(store)
    said: list[str] = []
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            holder.communicate()  # ends its input, and so the holder

    with locked(store, artifact(store), said.append, sleep) as check:
        check()
    assert slept == [1.0, 1.0, 1.0]
    (line,) = said
    assert line.startswith(f"count/abc is being made by process {holder.pid} on ")
    assert line.endswith("waiting for it (Ctrl-C stops waiting)")
    assert not lock_file(store).exists()


def test_a_holder_that_is_killed_is_followed_even_before_its_parent_waits_for_it(store: Folder) -> None:
    holder = hold_in_another_process(store)

    def kill(seconds: float) -> None:
        holder.kill()
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # ended, but still in the process table

    with locked(store, artifact(store), sleep=kill) as check:
        check()
    holder.communicate()
    assert not lock_file(store).exists()


def test_whoever_stops_waiting_leaves_the_lock_to_its_holder(store: Folder) -> None:
    holder = hold_in_another_process(store)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), locked(store, artifact(store), sleep=interrupt):
        pass
    assert json.loads(lock_file(store).read_text())["pid"] == holder.pid
    holder.communicate()


@pytest.mark.parametrize("content", [b"", b'{"host": "el'])
def test_a_lock_file_cut_off_by_a_power_cut_holds_nothing(store: Folder, content: bytes) -> None:
    store.write(f"{LOCKS}/count-abc.json", content)
    with locked(store, artifact(store)) as check:
        check()


def test_a_heartbeat_that_fails_is_made_up_by_the_next(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    write, failures, beaten = Folder.write, [ValueError("full"), ConnectionError("lost")], threading.Event()

    def fail_twice(self: Folder, name: str, data: bytes, durable: bool = True) -> None:
        if threading.current_thread() is not threading.main_thread():
            if failures:
                raise failures.pop()
            beaten.set()
        write(self, name, data, durable)

    monkeypatch.setattr(Folder, "write", fail_twice)
    with locked(store, artifact(store)) as check:
        first = json.loads(lock_file(store).read_text())["beat"]
        assert beaten.wait(30)
        check()
    assert not failures
    assert first > 0


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    store = Folder(str(tmp_path / "store"))
    with pytest.raises(ValueError, match=r"the store .*/store cannot be written"), locked(store, artifact(store)):
        pass


def test_a_lock_on_a_store_that_is_no_disk_is_given_back() -> None:
    store = Folder(f"memory://{uuid.uuid4().hex}")
    for _ in range(2):
        with locked(store, artifact(store)) as check:
            check()
            with pytest.raises(HeldError, match=f"made by process {os.getpid()} on"), locked(store, artifact(store)):
                pass
    assert store.child(LOCKS).names() == []
