"""Trainings in this process or in Ray Train workers, with one kind of log and one kind of checkpoint."""

from __future__ import annotations

import io
import json
import pickle
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from regionclip.place_errors import PlaceError
from regionclip.training.session import Session
from stages.contract import WORK, Context
from stages.ray_session import ensure_ray, require_local_gpu, require_room, torch_threads
from stages.storage import Folder

Loop = Callable[[Session, dict[str, Any]], None]

_STATE = "state.pt"
_LOG = "log"
_RELAY_SECONDS = 1.0


def fit(context: Context, loop: Loop, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run `loop(session, arguments)` in every worker and return the state it saved last, on the CPU.

    With `num_workers` 0 the loop runs in this process without Ray; else in that many Ray Train workers that
    share a torch process group (gloo on CPUs, nccl on GPUs), and loop and arguments must pickle. Checkpoints
    lie in the `work` folder of the output, so that the same recipe goes on where it was interrupted; when
    workers die, all are started again as long as the checkpoint advanced since their last start. Raises
    ValueError when the workers do not fit in the cluster, and with the message of any ValueError of a worker.
    """
    work = context.folder.child(WORK)
    if context.resources.num_workers == 0:
        require_local_gpu(context.resources.num_gpus)
        with torch_threads(context.resources.num_cpus):
            loop(_FolderSession(work, 0, 1, torch.device(context.resources.device), context.log), arguments)
    else:
        _fit_on_ray(context, work, loop, arguments)
    state = _read_state(work)
    assert state is not None, f"{loop.__name__} saved no state"
    return state


class _FolderSession:
    """A `Session` whose checkpoint is one file of a folder that every worker and the caller can reach."""

    def __init__(
        self,
        work: Folder,
        rank: int,
        world_size: int,
        device: torch.device,
        log: Callable[[Mapping[str, float], int], None],
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self.rank, self.world_size, self.device = rank, world_size, device
        self._work, self._log, self._flush = work, log, flush

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if self.rank == 0:
            self._log(metrics, step)

    def restore(self) -> dict[str, Any] | None:
        return _read_state(self._work)

    def save(self, step: int, state: dict[str, Any]) -> None:
        if self.rank == 0:
            self._flush()  # first, so that no metric before the checkpoint is lost with the process
            data = io.BytesIO()
            torch.save(state, data)
            self._work.write(_STATE, data.getvalue())


def _read_state(work: Folder) -> dict[str, Any] | None:
    if not work.exists(_STATE):
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(work.read(_STATE)), map_location="cpu", weights_only=True)
    return state


def _fit_on_ray(context: Context, work: Folder, loop: Loop, arguments: dict[str, Any]) -> None:
    if not work.is_shared:
        raise ValueError(f"{work.uri} is seen by one process only; set num_workers to 0 or use another store")
    resources = context.resources
    ray = ensure_ray()
    require_room(resources.num_workers, resources.num_cpus, resources.num_gpus, spare_cpus=0.0)
    from ray.train import RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    per_worker = {"CPU": resources.num_cpus, "GPU": resources.num_gpus}
    job = ray.cloudpickle.dumps((loop, arguments, work, resources.num_cpus))
    while True:
        before = _version(work)
        trainer = TorchTrainer(
            _run_worker,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(
                num_workers=resources.num_workers,
                use_gpu=resources.num_gpus > 0,
                resources_per_worker={name: amount for name, amount in per_worker.items() if amount},
            ),
            run_config=RunConfig(name=secrets.token_hex(8), storage_path=work.child("ray").uri),
        )
        try:
            _run_and_relay(trainer.fit, context, work.child(_LOG))
            return
        except TrainingFailedError as error:
            failures = getattr(error, "worker_failures", {}).values()
            for failure in failures:
                if isinstance(failure, ValueError):
                    raise ValueError(str(failure)) from None
            if _version(work) != before:
                continue  # from its last checkpoint
            for failure in failures:
                if isinstance(failure, PlaceError):
                    raise PlaceError(str(failure)) from None
            raise


def _version(work: Folder) -> tuple[str, int] | None:
    return work.checksum(_STATE) if work.exists(_STATE) else None


def _run_worker(config: dict[str, Any]) -> None:
    """What Ray Train starts in each worker process."""
    import ray.train
    import ray.train.torch

    loop, arguments, work, num_cpus = pickle.loads(config["job"])
    place = ray.train.get_context()
    sender = _Sender(work.child(_LOG))
    rank, device = place.get_world_rank(), ray.train.torch.get_device()
    session = _FolderSession(work, rank, place.get_world_size(), device, sender.log, sender.flush)
    with torch_threads(num_cpus):
        try:
            loop(session, arguments)
        finally:
            sender.flush()


class _Sender:
    """Leaves logged metrics as small files for the caller, which may sit on another machine."""

    def __init__(self, folder: Folder) -> None:
        self._folder, self._sent = folder, time.monotonic()
        self._lines: list[tuple[int, dict[str, float]]] = []

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._lines.append((step, dict(metrics)))
        if time.monotonic() - self._sent > _RELAY_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._folder.write(f"{time.time_ns():020d}.json", json.dumps(self._lines).encode(), durable=False)
        self._lines, self._sent = [], time.monotonic()


def _run_and_relay(train: Callable[[], Any], context: Context, folder: Folder) -> None:
    """Train in a thread, and meanwhile pass the metrics that workers leave in the folder to `context.log`.

    Only in another thread does Ray Train leave the handling of Ctrl-C to us.
    """
    errors: list[BaseException] = []

    def target() -> None:
        try:
            train()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    running = True
    while running:
        thread.join(_RELAY_SECONDS)
        running = thread.is_alive()
        for name in folder.names():
            for step, metrics in json.loads(folder.read(name)):
                context.log(metrics, step)
            folder.delete(name)
    if errors:
        raise errors[0]
