"""Region encoding on a GPU: rates with and without reading images, share of the matmul rate, and a profile."""

from __future__ import annotations

import functools
import io
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from label_arrangements import matmul_rate, seeded_batch, seeded_clip
from PIL import Image
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from regionclip.images import CLIP_MEAN, CLIP_STD, ResizeConfig
from regionclip.loading import ImageRecord, load_batches
from regionclip.teachers.making import make_teacher
from regionclip.teachers.teacher import Teacher, TeacherConfig

NUM_FILES, NUM_KERNELS = 64, 10


def gpu(model: str, size: tuple[int, int], device: str = "cuda", batch_size: int = 16) -> dict[str, Any]:
    """Rates of the fused form in bf16 at each number of boxes, compiled and not, printed as they come."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU here; 'bare' is the benchmark of the CPU")
    dtype = torch.bfloat16
    rate = matmul_rate(device, dtype)
    print(f"bf16 matmul: {rate / 1e12:.1f} TFLOP/s")
    results: dict[str, Any] = {"batch_size": batch_size, "size": list(size), "matmul_teraflops": rate / 1e12}
    clip, flops = seeded_clip(model), dict[int, float]()
    with tempfile.TemporaryDirectory() as folder:
        records = write_images(Path(folder), size)
        results["reading_images_a_second"] = _reading_rate(Path(folder), records, batch_size)
        for compiled, boxes in itertools.product((False, True), (100, 300)):
            teacher = make_teacher(clip, TeacherConfig(precision="bf16", fused=True, compile=compiled), device)
            if not compiled:  # operations inside compiled code are not seen
                flops[boxes] = _flops(teacher, device, batch_size, boxes, size)
            found = _measure(teacher, device, batch_size, boxes, size)
            found["share_of_matmul_rate"] = flops[boxes] / found["seconds_a_batch"] / rate
            found["images_a_second_with_reading"] = _with_reading(teacher, Path(folder), records, device, boxes, size)
            found["images_a_second_without_reading"] = batch_size / found["seconds_a_batch"]
            found["regions_a_second"] = boxes * found["images_a_second_without_reading"]
            name = f"{boxes} boxes{', compiled' if compiled else ''}"
            results[name] = found
            print(name, {key: round(value, 3) for key, value in found.items() if not isinstance(value, list)})
            for kernel in found["kernels"]:
                print(f"    {kernel['share']:6.1%} {kernel['name'][:90]}")
    return results


def _flops(teacher: Teacher, device: str, batch_size: int, boxes: int, size: tuple[int, int]) -> float:
    images, placed = seeded_batch(0, batch_size, boxes, size)
    with FlopCounterMode(display=False) as counter:
        teacher.region_features(images.to(device), placed)
    return float(counter.get_total_flops())


def _measure(teacher: Teacher, device: str, batch_size: int, boxes: int, size: tuple[int, int]) -> dict[str, Any]:
    images, placed = seeded_batch(0, batch_size, boxes, size)
    images, placed = images.to(device), [each.to(device) for each in placed]
    encode = functools.partial(teacher.region_features, images, placed)
    started = time.perf_counter()
    for _ in range(3):
        encode()
    _wait(device)
    warm_up = time.perf_counter() - started
    seconds = statistics.median(_seconds(encode, device) for _ in range(10))
    return {
        "seconds_a_batch": seconds,
        "warm_up_seconds": warm_up,
        "kernels": _kernels(encode, device),
    }


def _seconds(function: Callable[[], Any], device: str) -> float:
    if device != "cuda":
        started = time.perf_counter()
        function()
        return time.perf_counter() - started
    event: Any = torch.cuda.Event
    start, end = (event(enable_timing=True) for _ in range(2))
    start.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


def _kernels(encode: Callable[[], Any], device: str) -> list[dict[str, Any]]:
    """The kernels that take most time of one batch, with their share of all kernels' time."""
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with profile(activities=kinds) as recorded:
        encode()
        _wait(device)
    field = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    rows = [(row.key, float(getattr(row, field))) for row in recorded.key_averages()]
    total = sum(taken for _, taken in rows) or 1.0
    longest = sorted(rows, key=lambda row: -row[1])[:NUM_KERNELS]
    return [{"name": name, "share": taken / total} for name, taken in longest]


def write_images(folder: Path, size: tuple[int, int], count: int = NUM_FILES) -> list[ImageRecord]:
    """JPEG files of smooth colours with some noise, at the size the encoder sees."""
    height, width = size
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    records = []
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height))
        noisy = np.asarray(coarse, dtype=np.int16) + random.integers(-12, 13, (height, width, 3), dtype=np.int16)
        data = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=90)
        (folder / f"{number}.jpg").write_bytes(data.getvalue())
        records.append(ImageRecord(number, f"{number}.jpg", width, height))
    return records


def _batches(folder: Path, records: list[ImageRecord], batch_size: int) -> Any:
    size = ResizeConfig(short_side=min(records[0].width, records[0].height), max_side=4096)

    def refuse(name: str, reason: str) -> None:
        raise ValueError(f"{name}: {reason}")

    return load_batches(lambda name: (folder / name).read_bytes(), records, size, batch_size, refuse)


def _reading_rate(folder: Path, records: list[ImageRecord], batch_size: int) -> float:
    started = time.perf_counter()
    for _ in _batches(folder, records, batch_size):
        pass
    rate = len(records) / (time.perf_counter() - started)
    print(f"reading alone: {rate:.1f} images/s on {os.cpu_count()} cores")
    return rate


def _with_reading(
    teacher: Teacher, folder: Path, records: list[ImageRecord], device: str, boxes: int, size: tuple[int, int]
) -> float:
    placed = [each.to(device) for each in seeded_batch(0, len(records), boxes, size)[1]]
    started = time.perf_counter()
    for batch in _batches(folder, records, 16):
        pixels = batch.normalized(CLIP_MEAN, CLIP_STD, device)
        teacher.region_features(pixels, [placed[position] for position in batch.positions]).half().cpu()
    return len(records) / (time.perf_counter() - started)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
