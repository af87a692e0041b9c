"""One way to encode the regions of an image folder, in a process of its own; prints what it took as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from memory import process_tree

BARE = "bare"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Settings:
    """What is encoded: images of `short_side` x 16/9 pixels, in parts; `workers` threads or processes each way.

    model: of open_clip, with random weights.
    """

    images: int = 320
    short_side: int = 750
    boxes: int = 100
    workers: int = 2
    part_size: int = 16
    batch_size: int = 4
    model: str = "RN50-quickgelu"
    fused: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of each image."""
        return self.short_side, self.short_side * 16 // 9

    @property
    def ways(self) -> list[str]:
        """'bare', or a number of workers x the CPUs of each; 0 workers are the stage in place."""
        return [BARE, f"0x{self.workers}", f"1x{self.workers}", f"{self.workers}x1"]


def _encode_config(settings: Settings) -> Any:
    from regionclip.images import ResizeConfig
    from regionclip.teachers.teacher import TeacherConfig
    from stages.encode_regions import EncodeConfig

    return EncodeConfig(
        num_regions=settings.boxes,
        teacher=TeacherConfig(fused=settings.fused),
        resize=ResizeConfig("pretraining", short_side=settings.short_side, max_side=4096),
        part_size=settings.part_size,
    )


def _bare(settings: Settings, inputs: Mapping[str, Any], store: str, began: float) -> dict[str, Any]:
    """The loop that the stage is compared with."""
    import numpy as np
    import torch

    from regionclip.clip_models import load_clip
    from regionclip.loading import load_batches
    from regionclip.teachers.making import make_teacher, teacher_pixels
    from regionclip.teachers.memory import keep_freed_memory
    from stages.listed_images import image_records, images_folder
    from stages.parts import read_table

    config = _encode_config(settings)
    torch.set_num_threads(settings.workers)
    imported = time.time()
    keep_freed_memory()
    weights = load_clip(inputs["clip"].folder.local())
    teacher, wanted = make_teacher(weights, config.teacher), teacher_pixels(weights, config.teacher)
    boxes = read_table(inputs["proposals"], "proposals", ["boxes"])["boxes"].combine_chunks()
    placed = torch.from_numpy(boxes.flatten().flatten().to_numpy().copy()).reshape(settings.images, -1, 4)
    records, read = image_records(inputs["images"]), images_folder(inputs["images"]).read

    def refuse(item: str, reason: str) -> None:
        raise ValueError(f"{item}: {reason}")

    started, cpu = time.time(), time.process_time()
    features = []
    for batch in load_batches(read, records, config.resize, settings.batch_size, refuse):
        pixels = batch.normalized(*wanted, "cpu")
        features.append(teacher.region_features(pixels, list(placed[batch.positions] * batch.scale)).half())
    seconds, cpu = time.time() - started, time.process_time() - cpu
    Path(store).mkdir()
    np.save(f"{store}/features.npy", torch.cat(features).numpy())
    return {
        "images_a_second": round(settings.images / seconds, 4),
        "seconds": round(seconds, 2),
        "cpu_seconds_an_image": round(cpu / settings.images, 3),
        "threads": torch.get_num_threads(),
        "startup_seconds": _steps(began, imports=imported, model=started),
    }


def _stage(
    settings: Settings, inputs: Mapping[str, Any], store: str, began: float, num_workers: int, num_cpus: int
) -> dict[str, Any]:
    from stages import encode_regions
    from stages.contract import Resources
    from stages.parts import process_parts
    from stages.ray_session import ensure_ray
    from stages.storage import Folder

    resources = Resources(num_workers=num_workers, num_cpus=num_cpus, batch_size=settings.batch_size)
    imported = time.time()
    if resources.num_workers:
        ensure_ray()
    with_ray = time.time()
    context = BenchmarkContext(Folder(store), resources)
    log = f"{store}.jsonl"

    def timed(context: Any, items: Any, part_size: int, worker: type, arguments: Any, *rest: Any, **named: Any) -> Any:
        lent = {"worker": worker, "arguments": arguments, "log": log}
        return process_parts(context, items, part_size, TimedWorker, lent, *rest, **named)

    with mock.patch.object(encode_regions, "process_parts", timed):
        encode_regions.STAGE.run(context, _encode_config(settings), **inputs)
    ended = time.time()
    lines = [json.loads(line) for line in Path(log).read_text().splitlines()]
    made, parts = ([line for line in lines if line["what"] == what] for what in ("made", "part"))
    first = min(parts, key=lambda part: float(part["from"]))
    first_made = min(made, key=lambda line: float(line["from"]))
    seconds = ended - first["from"]
    return {
        "images_a_second": round(settings.images / seconds, 4),
        "seconds": round(seconds, 2),
        "cpu_seconds_an_image": round(sum(part["cpu"] for part in parts) / settings.images, 3),
        "threads": first["threads"],
        "startup_seconds": _steps(
            began, imports=imported, Ray=with_ray, workers=first_made["from"], model=first["from"]
        ),
        "last_worker_ready_later_seconds": round(max(line["to"] for line in made) - first["from"], 2),
        "share_of_time_in_parts": round(sum(_length(part) for part in parts) / seconds / len(made), 3),
        "tail_seconds": round(ended - min(_last_ends(parts)), 2),
        "other_cpu_seconds_an_image": round(context.other_cpu_seconds({part["pid"] for part in parts}), 3),
    }


def _steps(began: float, **ends: float) -> dict[str, float]:
    """Seconds of each step, of which the end is given, and of all; 'imports' are those of this process."""
    starts = [began, *ends.values()]
    lengths = {name: round(end - start, 2) for start, (name, end) in zip(starts, ends.items(), strict=False)}
    return {**lengths, "all": round(starts[-1] - began, 2)}


def _length(line: Mapping[str, float]) -> float:
    return line["to"] - line["from"]


def _last_ends(parts: Sequence[Mapping[str, Any]]) -> list[float]:
    """When each worker ended its last part."""
    return [max(part["to"] for part in parts if part["pid"] == pid) for pid in {part["pid"] for part in parts}]


class TimedWorker:
    """A worker of a stage, in a Ray process, that notes when it was made and how long each part took it."""

    def __init__(self, worker: type, arguments: Mapping[str, Any], log: str) -> None:
        self._log = log
        with self._noted("made"):
            self._worker = worker(**arguments)

    def __call__(self, items: Sequence[Any]) -> Any:
        with self._noted("part"):
            return self._worker(items)

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        import torch

        since, cpu = time.time(), time.process_time()
        yield
        line = {"what": what, "pid": os.getpid(), "from": since, "to": time.time(), "threads": torch.get_num_threads()}
        with open(self._log, "a") as file:
            file.write(json.dumps({**line, "cpu": time.process_time() - cpu}) + "\n")


class BenchmarkContext:
    """Lends a stage a folder, and notes the CPU seconds of all processes at its first finished part and at the last."""

    def __init__(self, folder: Any, resources: Any) -> None:
        self.folder, self.resources = folder, resources
        self._seen: list[tuple[int, dict[int, float]]] = []

    def log(self, metrics: Any, step: int) -> None:
        """Nothing is kept."""

    def say(self, text: str) -> None:
        """Nothing is shown."""

    def advance(self, done: int, total: int, unit: str) -> None:
        if done:
            self._seen = [*self._seen[:1], (done, _cpu_seconds())]

    def other_cpu_seconds(self, workers: set[int]) -> float:
        """CPU seconds an item of this process and Ray's servers, without the workers, after the first part."""
        (before, first), (after, last) = self._seen[0], self._seen[-1]
        spent = sum(cpu - first.get(process, 0.0) for process, cpu in last.items() if process not in workers)
        return spent / max(1, after - before)


def _cpu_seconds() -> dict[int, float]:
    """CPU seconds so far of this process and each below it."""
    spent = {}
    for process in process_tree(str(os.getpid())):
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            spent[int(process)] = (int(fields[11]) + int(fields[12])) / _TICKS
    return spent


def main(began: float) -> None:
    """Run the way that the first argument describes."""
    from stages.contract import Artifact
    from stages.storage import Folder

    task = json.loads(sys.argv[1])
    settings, name = Settings(**task["settings"]), task["name"]
    inputs = {key: Artifact(kind, id_, Folder(where)) for key, (kind, id_, where) in task["inputs"].items()}
    if name == BARE:
        answer = _bare(settings, inputs, task["store"], began)
    else:
        answer = _stage(settings, inputs, task["store"], began, *map(int, name.split("x")))
    print(json.dumps(answer))


if __name__ == "__main__":
    main(time.time())
