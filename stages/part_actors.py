"""Ray Data actors that work off the parts of a job; what dies with its process is tried again, but not for ever."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

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

    def run(self, worker: Any, part: int, items: Sequence[Any]) -> dict[str, Any]:
        """Do one part, write its files and give its record."""
        ...


def run_on_ray(
    resources: Resources, job: Job, work: Iterable[tuple[int, Sequence[Any]]], num_parts: int
) -> Iterator[dict[str, Any]]:
    """Run `work` (part, items) of a job on actors and give the record of each part as it is done.

    Raises ValueError when the workers do not fit in the cluster and with the message of any ValueError of a worker.
    """
    if not job.folder.is_shared:
        raise ValueError(f"{job.folder.uri} is seen by one process only; set num_workers to 0 or use another store")
    num_actors = min(resources.num_workers, num_parts)
    ray = ensure_ray()
    require_room(num_actors, resources.num_cpus, resources.num_gpus, spare_cpus=1.0)
    rows = []
    for part, items in work:
        job.folder.delete(_tries_name(part))
        rows.append({"part": part, "items": pickle.dumps(items)})
    answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Actor,
        fn_constructor_kwargs={"job": ray.cloudpickle.dumps(job)},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
    )
    for row in answers.iter_rows():
        answer = json.loads(row["answer"])
        if "error" in answer:
            raise ValueError(answer["error"])
        yield answer


class _Actor:
    """Holds one worker in a Ray process; a ValueError travels back as an answer, so that its message stays clean."""

    def __init__(self, job: bytes) -> None:
        self._job: Job = pickle.loads(job)
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
        except ValueError as error:
            answers = [{"error": str(error)}]
        return {"answer": [json.dumps(answer) for answer in answers]}

    def _try_part(self, part: int, items: Sequence[Any]) -> dict[str, Any]:
        """Ray re-runs a part whose process died, without end; the count of tries lies in a hidden file."""
        folder, name = self._job.folder, _tries_name(part)
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


def _tries_name(part: int) -> str:
    return f"parts/.{part:05d}.tries"
