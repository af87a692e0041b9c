"""The stage `encode_regions` through Ray beside the bare loop over the same images, each in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import label_pipeline_way
import numpy as np
import pyarrow.parquet as pq
from label_gpu import write_images
from label_pipeline_way import BARE, Settings

from pipelines.runner import Runner
from stages import propose_regions, read_clip, read_images
from stages.contract import Resources
from stages.storage import Folder


def pipeline(settings: Settings, rounds: int, ways: Sequence[str] | None = None) -> dict[str, Any]:
    """Rates of all ways, measured in turn `rounds` times, and the ratio of each to the bare loop of its round.

    'bare' reads the same files ahead and encodes them in batches with `workers` threads, and writes nothing; the others
    are the stage, which reads proposals, writes tables and records them.
    """
    names = ways or settings.ways
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        inputs = _make_inputs(settings, Path(scratch))
        for number in range(rounds):
            for name in names:
                answer = _measure(name, settings, inputs, f"{scratch}/{number}-{name}")
                print(_line(name, answer), flush=True)
                found[name].append(answer)
            _check_same(settings, scratch, number, [name for name in names if name != BARE])
    return {
        "settings": {**vars(settings), "rounds": rounds},
        "ways": {name: _summary(answers, found[BARE]) for name, answers in found.items()},
    }


def _make_inputs(settings: Settings, scratch: Path) -> dict[str, list[str]]:
    """Artifacts (kind, key, place) of images, their proposals and the model."""
    write_images(scratch / "images", settings.size, settings.images)
    with Runner(Folder(str(scratch / "store")), default=Resources(num_workers=0)) as run:
        images = run(read_images.STAGE, read_images.ImagesConfig(str(scratch), format="folder"))
        boxes = propose_regions.ProposeConfig(method="random", random_boxes=settings.boxes)
        proposals = run(propose_regions.STAGE, boxes, images=images)
        clip = run(read_clip.STAGE, read_clip.ClipConfig(settings.model, allow_untrained=True))
    given = {"images": images, "proposals": proposals, "clip": clip}
    return {name: [each.kind, each.key, each.folder.uri] for name, each in given.items()}


def _measure(name: str, settings: Settings, inputs: Mapping[str, list[str]], store: str) -> dict[str, Any]:
    task = json.dumps({"name": name, "settings": vars(settings), "inputs": inputs, "store": store})
    done = subprocess.run(
        [sys.executable, label_pipeline_way.__file__, task], check=True, stdout=subprocess.PIPE, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _line(name: str, answer: Mapping[str, Any]) -> str:
    start = ", ".join(f"{what} {seconds:.1f}" for what, seconds in answer["startup_seconds"].items())
    return (
        f"{name:<20} {answer['images_a_second']:6.3f} images/s once started, {answer['seconds']:6.1f} s and "
        f"{answer['cpu_seconds_an_image']:.2f} CPU s an image; {answer['threads']} threads; start-up: {start} s"
    )


def _summary(answers: Sequence[Mapping[str, Any]], bare: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ratios = [own["images_a_second"] / base["images_a_second"] for own, base in zip(answers, bare, strict=True)]
    middle = sorted(answers, key=lambda answer: float(answer["images_a_second"]))[len(answers) // 2]
    return {
        **middle,
        "over_bare": round(statistics.median(ratios), 3),
        "over_bare_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def _check_same(settings: Settings, scratch: str, number: int, names: Sequence[str]) -> None:
    """All ways of a round must have found the same features, up to the last bits."""
    expected = np.load(f"{scratch}/{number}-{BARE}/features.npy")
    for name in names:
        files = sorted(Path(f"{scratch}/{number}-{name}").glob("regions-*.parquet"))
        lists = (pq.read_table(file, columns=["features"])["features"].combine_chunks() for file in files)
        found = np.concatenate([each.flatten().flatten().to_numpy() for each in lists]).reshape(expected.shape)
        difference = float(np.abs(found.astype(np.float32) - expected.astype(np.float32)).max())
        if difference > 1e-3:
            raise SystemExit(f"{name}: features differ from those of the bare loop by {difference}")
