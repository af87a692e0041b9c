"""The most memory of each stage from images to labels, for some images and for many times as many."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIDE, BOXES, CONCEPTS, WIDTH = 200, 50, 1000, 128
MODEL = "rgc-rn-w16"  # WIDTH is its number of features
PREPARE = "prepare"
STEPS = ("read_images", "propose_regions", "encode_regions", "label_regions", "label_regions with captions")


def memory(images: int, times: int, workers: int) -> dict[str, Any]:
    """Peaks in MB of the driver and of a worker, at both scales.

    Every stage runs in a process of its own, with a Ray of its own; with captions, labels are weighted by them.
    """
    found: dict[str, list[dict[str, Any]]] = {step: [] for step in STEPS}
    with tempfile.TemporaryDirectory() as scratch:
        for count in (images, images * times):
            folder = str(Path(scratch) / str(count))
            _in_process(folder, PREPARE, count)
            for step in STEPS:
                row = {"images": count, **_in_process(folder, step, workers)}
                print(f"{step:<28}", row, flush=True)
                found[step].append(row)
    return {
        "settings": {"side": SIDE, "boxes": BOXES, "concepts": CONCEPTS, "model": MODEL, "workers": workers},
        "steps": {step: {"runs": rows, "more_over_fewer": _ratios(*rows)} for step, rows in found.items()},
    }


def _in_process(folder: str, step: str, number: int) -> dict[str, Any]:
    command = [sys.executable, __file__, folder, step, str(number)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _ratios(fewer: dict[str, Any], more: dict[str, Any]) -> dict[str, float]:
    return {name: round(more[name] / fewer[name], 3) for name in fewer if name.endswith("_mb") and fewer[name]}


def _prepare(folder: Path, count: int) -> None:
    """Write the data set, and the artifacts that are not measured."""
    from pipelines.runner import Runner
    from stages import read_captions, read_clip, read_embeddings
    from stages.contract import Resources
    from stages.storage import Folder

    _write_dataset(folder, count)
    text_files = read_embeddings.ReadEmbeddingsConfig(f"{folder}/embeddings.pth", f"{folder}/concepts.txt")
    with Runner(Folder(f"{folder}/store"), default=Resources(num_workers=0)) as run:
        clip = run(read_clip.STAGE, read_clip.ClipConfig(MODEL, allow_untrained=True))
        captions = run(read_captions.STAGE, read_captions.CaptionsConfig(str(folder)))
        embeddings = run(read_embeddings.STAGE, text_files)
    for artifact in (clip, captions, embeddings):
        _keep(folder, artifact)


def _write_dataset(folder: Path, count: int) -> None:
    """JPEG files with COCO records, two captions each, and an embedding of each concept that captions name."""
    import torch
    from label_gpu import write_images

    (folder / "annotations").mkdir(parents=True)
    records = write_images(folder / "images", (SIDE, SIDE), count)
    images = [{"id": each.image_id, "file_name": each.file_name, "width": SIDE, "height": SIDE} for each in records]
    captions = [
        {"id": row, "image_id": row // 2, "caption": f"a photo of a {_concept(row * 7)} and a {_concept(row * 11)}"}
        for row in range(2 * count)
    ]
    for name, rows in (("instances", []), ("captions", captions)):
        content = {"images": images, "annotations": rows, "categories": []}
        (folder / f"annotations/{name}.json").write_text(json.dumps(content))
    (folder / "concepts.txt").write_text("".join(f"{_concept(number)}\n" for number in range(CONCEPTS)))
    torch.save(torch.randn(CONCEPTS, WIDTH, generator=torch.Generator().manual_seed(0)), folder / "embeddings.pth")


def _concept(number: int) -> str:
    """A word of letters alone, another one for each number below CONCEPTS."""
    digits = f"{number % CONCEPTS:03d}"
    return "".join("bdfghklmnp"[int(digit)] + vowel for digit, vowel in zip(digits, "aou", strict=True))


def _measure(folder: Path, step: str, workers: int) -> dict[str, Any]:
    from memory import PeakMemory

    from pipelines.runner import Runner
    from stages.contract import Resources
    from stages.storage import Folder

    peak, started = PeakMemory(), time.monotonic()
    stage, config, names = _call(folder, step)
    with Runner(Folder(f"{folder}/store"), default=Resources(num_workers=workers, num_cpus=1)) as run:
        artifact = run(stage, config, **{name: _kept(folder, name) for name in names})
    peak.stop()
    _keep(folder, artifact)
    return {
        "seconds": round(time.monotonic() - started, 1),
        "driver_mb": round(peak.driver_mb, 1),
        "worker_mb": round(peak.worker_mb, 1),
        "tree_mb": round(peak.tree_mb, 1),
    }


def _call(folder: Path, step: str) -> tuple[Any, Any, tuple[str, ...]]:
    """The stage of a step, its config and the kinds of its inputs, which are also their names."""
    if step == "read_images":
        from stages import read_images

        return read_images.STAGE, read_images.ImagesConfig(str(folder)), ()
    if step == "propose_regions":
        from stages import propose_regions

        boxes = propose_regions.ProposeConfig(method="random", random_boxes=BOXES)
        return propose_regions.STAGE, boxes, ("images",)
    if step == "encode_regions":
        from regionclip.images import ResizeConfig
        from stages import encode_regions

        encode = encode_regions.EncodeConfig(num_regions=BOXES, resize=ResizeConfig("pretraining", short_side=SIDE))
        return encode_regions.STAGE, encode, ("images", "proposals", "clip")
    from stages import label_regions

    if step == "label_regions":
        return label_regions.STAGE, label_regions.LabelsConfig(), ("regions", "embeddings")
    guided = label_regions.LabelsConfig(candidates="weighted")
    return label_regions.STAGE, guided, ("regions", "embeddings", "captions")


def _keep(folder: Path, artifact: Any) -> None:
    where = {"kind": artifact.kind, "key": artifact.key, "uri": artifact.folder.uri}
    (folder / f"{artifact.kind}.artifact").write_text(json.dumps(where))


def _kept(folder: Path, kind: str) -> Any:
    from stages.contract import Artifact
    from stages.storage import Folder

    where = json.loads((folder / f"{kind}.artifact").read_text())
    return Artifact(where["kind"], where["key"], Folder(where["uri"]))


def _main(folder: Path, step: str, number: int) -> None:
    if step == PREPARE:
        _prepare(folder, number)
        print("{}")
    else:
        print(json.dumps(_measure(folder, step, number)))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
