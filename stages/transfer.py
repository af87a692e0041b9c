"""Region encoder + base boxes -> an open-vocabulary detector that knows the names of all classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionclip.clip_models import load_clip
from regionclip.detector import save_detector
from regionclip.embeddings import load_embeddings
from regionclip.grouped import Grouped, grouped_lists, grouped_rows
from regionclip.training.session import Session
from regionclip.training.transfer import TransferArguments, TransferConfig, build_detector, check_transfer
from regionclip.training.transfer import transfer as train
from stages.contract import Artifact, Context, Result, Stage
from stages.listed_images import image_files
from stages.parts import read_table
from stages.training import fit


def transfer(
    context: Context,
    config: TransferConfig,
    clip: Artifact,
    images: Artifact,
    proposals: Artifact,
    boxes: Artifact,
    embeddings: Artifact,
) -> Result:
    """Write the detector: trained on `boxes`, the base classes, with the class table of all `embeddings`.

    Images without a base box are left out of the training.
    """
    model = load_clip(clip.folder.local())
    description = json.loads(clip.folder.read("clip.json"))
    names, table = load_embeddings(embeddings.folder.local())
    base = base_classes(json.loads(boxes.folder.read("classes.json")), names)
    image_ids, proposed, truth = _training_images(proposals, boxes, base)
    arguments: dict[str, Any] = {
        "config": config,
        "classes": base,
        "class_embeddings": table[[names.index(name) for name in base]],
        "images": image_files(images, image_ids),
        "proposals": proposed,
        "truth": truth,
    }
    checked = TransferArguments(clip=model, **arguments)
    check_transfer(checked)
    context.advance(0, config.num_steps, "steps")
    state = fit(context, _loop, {"clip": clip.folder, **arguments})
    detector = build_detector(checked)
    detector.load_state_dict(state["model"])
    detector.set_class_embeddings(names, table)
    with context.folder.staging() as folder:
        save_detector(detector, description["model"], folder)
    context.folder.write("clip.json", clip.folder.read("clip.json"))
    return Result(metrics={"num_images": len(image_ids), "num_boxes": len(truth["labels"]), "num_classes": len(names)})


def base_classes(base: Sequence[str], embedded: Sequence[str]) -> list[str]:
    """The base classes, checked to be among the embedded names."""
    missing = [name for name in base if name not in embedded]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(base)} base classes have no embedding, first is '{missing[0]}'; "
            "embed all base and novel classes"
        )
    return list(base)


def _training_images(
    proposals: Artifact, boxes: Artifact, base: Sequence[str]
) -> tuple[NDArray[np.int64], Grouped, Grouped]:
    """Ids, proposals and true boxes of the images that have both, in the order of the proposals."""
    rows = read_table(boxes, "boxes").to_pylist()
    rows = [row for row in rows if not row["is_crowd"]]
    owners = np.array([row["image_id"] for row in rows], dtype=np.int64)
    columns: dict[str, NDArray[Any]] = {
        "boxes": np.array([row["box"] for row in rows], dtype=np.float32).reshape(-1, 4),
        "labels": np.array([base.index(row["category"]) for row in rows], dtype=np.int64),
    }
    table = read_table(proposals, "proposals")
    table = table.filter(np.isin(table["image_id"].to_numpy(), owners))
    if not len(table):
        raise ValueError(
            f"none of the images of proposals {proposals.key} has a box in boxes {boxes.key}; "
            "propose regions in the images of the base boxes"
        )
    image_ids = table["image_id"].to_numpy()
    truth = grouped_rows(owners, image_ids, columns)
    return image_ids, grouped_lists(table, ["boxes", "objectness"]), truth


def _loop(session: Session, arguments: Mapping[str, Any]) -> None:
    train(session, TransferArguments(**{**arguments, "clip": load_clip(arguments["clip"].local())}))


STAGE = Stage(
    name="transfer",
    version=1,
    inputs={
        "clip": ("region_encoder", "clip"),
        "images": ("images",),
        "proposals": ("proposals",),
        "boxes": ("boxes",),
        "embeddings": ("embeddings",),
    },
    output="detector",
    run=transfer,
    resumable=True,
)
