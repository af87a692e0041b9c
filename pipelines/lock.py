"""One writer an artifact: a lock file that names its owner, with a heartbeat for owners on other machines."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.contract import Artifact
from stages.storage import Folder

BEAT_SECONDS = 15.0
STALE_SECONDS = 120.0
POLL_SECONDS = 1.0
LOCKS = ".locks"


class HeldError(RuntimeError):
    """An artifact is made by an owner that is not waited for: on another machine, in this very process, or one that
    took the lock over."""


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def locked(
    store: Folder,
    artifact: Artifact,
    say: Callable[[str], None] = _warn,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Callable[[], None]]:
    """Hold the right to write an artifact; yields a check that it is still held.

    A living process of this machine that holds it is waited for, after its name was said once. A lock whose owner
    is dead (no such process on this machine, or no heartbeat from another one for two minutes) is taken over.
    Raises HeldError naming a living owner elsewhere. Of several that want it at once one gets it, on a local store and
    on servers with conditional writes (S3); of several that take over from a dead owner there, the last may push the
    others out, which `check` then tells them.
    """
    folder, name = store.child(LOCKS), f"{artifact.kind}-{artifact.key}.json"
    owner = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _process_start(os.getpid()),
        "token": secrets.token_hex(8),
        "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }

    def data() -> bytes:
        return json.dumps({**owner, "beat": time.time()}).encode()

    def check() -> None:
        if _read(folder, name).get("token") != owner["token"]:
            raise HeldError(f"{artifact.kind}/{artifact.key}: the lock was taken over by another process; run again")

    def keep_beating() -> None:
        while not released.wait(BEAT_SECONDS):
            with suppress(Exception):  # a full disk or a lost connection may pass; `check` decides in the end
                if _read(folder, name).get("token") == owner["token"]:
                    folder.write(name, data(), durable=False)

    _take_in_turn(artifact, owner, lambda: _take(folder, name, data), say, sleep)
    check()
    released = threading.Event()
    thread = threading.Thread(target=keep_beating, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        released.set()
        thread.join()
        with suppress(ValueError, OSError):  # a lock that stays is taken over, as its owner ends
            if _read(folder, name).get("token") == owner["token"]:
                folder.delete(name)


def _take_in_turn(
    artifact: Artifact,
    owner: Mapping[str, Any],
    take: Callable[[], Mapping[str, Any]],
    say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> None:
    """Take a lock when no other process of this machine holds it any more, naming each that does."""
    told = None
    while holder := take():
        about = (
            f"{artifact.kind}/{artifact.key} is being made by process {holder['pid']} on {holder['host']} since "
            f"{holder['since']}"
        )
        if holder["host"] != owner["host"] or holder["pid"] == owner["pid"]:
            raise HeldError(f"{about}; wait for it, or stop it and run again")
        if told != holder["token"]:
            say(f"{about}; waiting for it (Ctrl-C stops waiting)")
        told = holder["token"]
        sleep(POLL_SECONDS)


def _take(folder: Folder, name: str, data: Callable[[], bytes]) -> dict[str, Any]:
    """Write the lock file and return nothing, or return the living owner that keeps it from that."""
    with guarded(folder):
        holder = _read(folder, name)
        if holder and _is_alive(holder):
            return holder
        folder.delete(name)
        return {} if folder.create(name, data()) else _read(folder, name)


def _read(folder: Folder, name: str) -> dict[str, Any]:
    """Who holds the lock; empty where nobody does, or where a power cut left half a file."""
    try:
        holder: dict[str, Any] = json.loads(folder.read(name))
    except json.JSONDecodeError:
        return {}
    except ValueError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return {}
        raise
    return holder


def _is_alive(holder: dict[str, Any]) -> bool:
    if holder["host"] != socket.gethostname():
        return bool(time.time() - holder["beat"] < STALE_SECONDS)
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return bool(_process_start(holder["pid"]) == holder["started"])


def _process_start(pid: int) -> str | None:
    """When a process began, in clock ticks since boot, to tell a reused process id apart.

    None where that is unknown, and for a process that has ended but was not waited for.
    """
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if facts[0] in "ZX" else facts[19]


@contextmanager
def guarded(folder: Folder, name: str = ".guard") -> Iterator[None]:
    """Let one process of this machine at a time into the block; a folder that is no local one guards nothing."""
    if not folder.is_local:
        yield
        return
    path = Path(folder.uri)
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / name).open("a")
    except OSError as error:
        raise ValueError(f"the store {path.parent} cannot be written ({error}); choose another one") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
