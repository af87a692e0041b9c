"""The one Ray connection of a process: joined on demand, quiet, and closed when the process ends."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stages

MIN_LOCAL_CPUS = 4
_CONNECT_SECONDS = 10.0
_WORKER_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",  # Ray Data calls us in a thread, but only the main arena keeps the memory of large tensors
}
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_num_workers_soft_limit": "8",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_preload_python_modules": "ray.data",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",
    **_WORKER_ENVIRONMENT,
}
_address: str | None = None


def use_address(address: str | None) -> None:
    """Choose the cluster that later work joins; None is a local one of this process."""
    global _address
    _address = address


def ensure_ray() -> Any:
    """Join or start the cluster at the first call and return the `ray` module; later calls only return it.

    A local cluster has at least two logical CPUs more than the machine, so that actors leave room for the
    one-CPU tasks of Ray Data. What the process does on SIGTERM stays as it was. Raises ValueError when the chosen
    cluster cannot be reached.
    """
    ensure_environment()
    import ray

    if ray.is_initialized():
        return ray
    packages = Path(stages.__file__).parent.parent
    if _address is None:
        _lead_python_path(packages)
        num_cpus = max(MIN_LOCAL_CPUS, (os.cpu_count() or 1) + 2)
        with _mute_stderr(), _kept_sigterm():
            ray.init("local", num_cpus=num_cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    else:
        _check_answers(_address)
        modules = [str(packages / name) for name in ("regionclip", "stages")]
        environment = {"py_modules": modules, "env_vars": _WORKER_ENVIRONMENT}
        try:
            with _mute_stderr(), _kept_sigterm():
                ray.init(_address, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
        except ConnectionError as error:
            raise ValueError(f"no Ray cluster answers at {_address} ({error}); start it or correct it") from error
        except ray.exceptions.AuthenticationError as error:
            raise ValueError(
                f"the Ray cluster at {_address} wants a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN ({error})"
            ) from error
    _silence()
    return ray


def ensure_environment() -> None:
    """Set the environment variables that Ray's native code reads once, at its import; too late, nothing."""
    if "ray" not in sys.modules:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if _address is None or _has_token():  # a local cluster makes its token; for one to join there must be one
            os.environ.setdefault("RAY_AUTH_MODE", "token")


def _has_token() -> bool:
    stated = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return stated or (Path.home() / ".ray" / "auth_token").is_file()


def _check_answers(address: str) -> None:
    """Refuse a host and port where nothing listens, which Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            raise ValueError(f"no Ray cluster answers at {address} ({error}); start it or correct it") from error


def require_room(num_workers: int, num_cpus: float, num_gpus: float, spare_cpus: float) -> None:
    """Refuse workers that the cluster can never place, for which Ray would wait without a word.

    spare_cpus: CPUs that must stay free beside the workers. Raises ValueError with both numbers.
    """
    total = ensure_ray().cluster_resources()
    for what, each, spare in (("CPU", num_cpus, spare_cpus), ("GPU", num_gpus, 0.0)):
        have = float(total.get(what, 0.0))
        need = num_workers * each + spare
        if each > 0 and need > have:
            raise ValueError(
                f"{num_workers} workers x {each:g} {what}s + {spare:g} spare = {need:g}, but the Ray cluster has "
                f"{have:g}; lower num_workers or num_{what.lower()}s, or use a larger cluster"
            )


def require_local_gpu(num_gpus: float) -> None:
    """Refuse work of this very process on a GPU that the machine does not have."""
    if num_gpus > 0:
        import torch

        if not torch.cuda.is_available():
            raise ValueError(
                f"num_gpus is {num_gpus:g}, but this machine has no CUDA GPU for work in the command's own process; "
                "set num_gpus in resources to 0 for this stage, or num_workers to 1 or more on a cluster with GPUs"
            )


@contextmanager
def torch_threads(num_cpus: float) -> Iterator[None]:
    """Let torch, if it is loaded, use one thread a CPU inside the block."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, int(num_cpus)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _lead_python_path(packages: Path) -> None:
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if str(packages) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(packages), *paths])


@contextmanager
def _mute_stderr() -> Iterator[None]:
    """Drop what native code writes to file descriptor 2, such as the notice that a log level was set."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextmanager
def _kept_sigterm() -> Iterator[None]:
    """Undo what Ray makes of SIGTERM: a native handler that prints a stack trace and aborts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _silence() -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
