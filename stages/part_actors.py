"""Ray Data actors that work off the parts of a job; what dies with its process is tried again, but not for ever."""

from __future__ import annotations

import gc
import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from regionclip.place_errors import PlaceError
from stages.contract import Resources
from stages.ray_session import ensure_ray, require_room, torch_threads
from stages.storage import Folder

_MAX_TRIES = 3


class Job(Protocol):
    """What actors need of a job, which travels to them as a pickle."""

    @property
    def folder(self) -> Folder: ...

    @property
    def num_cpus(self) -> float: ...

    def make_worker(self) -> Any: ...

    def committed(self, part: int, num_items: int) -> dict[str, Any] | None:
        """The record of a part that is done already, if it is sound."""
        ...

    def run(self, worker: Any, part: int, items: Sequence[Any]) -> dict[str, Any]:
        """Do one part, write its files and give its record."""
        ...


def run_on_ray(
    resources: Resources, job: Job, work: Iterable[tuple[int, Sequence[Any]]], num_parts: int
) -> Iterator[dict[str, Any]]:
    """Run `work` (part, items) of a job on actors and give the record of each part as it is done.

    Raises ValueError when the workers do not fit in the cluster, ValueError or PlaceError with the message of any
    ValueError or OSError of a worker, and RuntimeError when the cluster is lost.
    """
    if not job.folder.is_shared:
        raise ValueError(f"{job.folder.uri} is seen by one process only; set num_workers to 0 or use another store")
    num_actors = min(resources.num_workers, num_parts)
    ray = ensure_ray()
    require_room(num_actors, resources.num_cpus, resources.num_gpus, spare_cpus=1.0)
    plan = ({"part": part, "items": pickle.dumps(items)} for part, items in work)
    answers = ray.data.from_items(list(plan), override_num_blocks=num_parts).map_batches(
        _Actor,
        fn_constructor_kwargs={"job": ray.cloudpickle.dumps(job)},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
    )
    for row in _rows(answers, ray):
        answer = json.loads(row["answer"])
        if "error" in answer:
            raise (PlaceError if answer["of_place"] else ValueError)(answer["error"])
        yield answer


def _rows(dataset: Any, ray: Any) -> Iterator[dict[str, Any]]:
    """The rows of a dataset as they come; RuntimeError when the cluster is lost, other errors as they are."""
    try:
        yield from dataset.iter_rows()
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        raise RuntimeError(
            f"the Ray cluster was lost ({type(error).__name__}); what was committed stays: give the same command again"
        ) from error


class _Actor:
    """Holds one worker in a Ray process; an error of the user or of a file travels back as an answer."""

    def __init__(self, job: bytes) -> None:
        self._job: Job = pickle.loads(job)
        gc.freeze()  # the modules that are there by now outlive the actor; full collections need not walk them
        self._worker: Any = None
        self._threads = torch_threads(self._job.num_cpus)
        self._threads.__enter__()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        try:
            if self._worker is None:
                self._worker = self._job.make_worker()
            answers = [
                self._try_part(int(part), pickle.loads(items))
                for part, items in zip(batch["part"], batch["items"], strict=True)
            ]
        except (ValueError, OSError) as error:
            answers = [{"error": str(error), "of_place": isinstance(error, OSError)}]
        return {"answer": [json.dumps(answer) for answer in answers]}

    def _try_part(self, part: int, items: Sequence[Any]) -> dict[str, Any]:
        """Ray re-runs a part whose process died, without end; the count of tries lies in a hidden file."""
        folder, name = self._job.folder, _tries_name(part)
        if (record := self._job.committed(part, len(items))) is not None:
            folder.delete(name)
            return record  # Ray lost the answer alone, with the process or the machine that held it
        tries = int(folder.read(name)) if folder.exists(name) else 0
        if tries == _MAX_TRIES:
            raise ValueError(
                f"part {part} ended its worker process {tries} times (first item: {items[0]!r:.200}); "
                "look for lack of memory or a broken item, then run again"
            )
        folder.write(name, str(tries + 1).encode(), durable=False)
        record = self._job.run(self._worker, part, items)
        folder.delete(name)
        return record


def forget_tries(folder: Folder, part: int) -> None:
    """Let a part be tried as often as a new one."""
    folder.delete(_tries_name(part))


def _tries_name(part: int) -> str:
    return f"parts/.{part:05d}.tries"
