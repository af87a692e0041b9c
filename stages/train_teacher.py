"""Images + captions -> a plain CLIP, trained without any box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regionclip.clip_models import clip_width, create_clip, save_clip
from regionclip.images import ResizeConfig
from regionclip.training.clip import ClipTrainingConfig, train_clip
from regionclip.training.images import TrainingImages
from regionclip.training.session import Session
from stages.contract import Artifact, Context, Result, Stage
from stages.listed_images import image_files
from stages.parts import read_table
from stages.training import fit


@dataclass(frozen=True)
class TeacherConfig:
    """The training and the size of its images, which must be that of the model's attention pool."""

    training: ClipTrainingConfig = field(default_factory=ClipTrainingConfig)
    resize: ResizeConfig = field(default_factory=lambda: ResizeConfig("pretraining", short_side=96, max_side=96))


def train_teacher(context: Context, config: TeacherConfig, images: Artifact, captions: Artifact) -> Result:
    """Write a CLIP trained on the images that have captions."""
    by_image: dict[int, list[str]] = {}
    for row in read_table(captions, "captions", ["image_id", "caption"]).to_pylist():
        if row["image_id"] is not None:
            by_image.setdefault(row["image_id"], []).append(row["caption"])
    if not by_image:
        raise ValueError(f"no caption of {captions.key} belongs to an image; give captions with image ids")
    image_ids = np.array(sorted(by_image), dtype=np.int64)
    arguments = {
        "config": config,
        "files": image_files(images, image_ids),
        "captions": [by_image[image_id] for image_id in image_ids.tolist()],
    }
    context.advance(0, config.training.num_steps, "steps")
    state = fit(context, _loop, arguments)
    clip = create_clip(config.training.model)
    clip.load_state_dict(state["model"])
    with context.folder.staging() as folder:
        save_clip(clip, config.training.model, folder, provenance={"trained_by": "train_teacher"})
    return Result(metrics={"num_images": len(image_ids), "width": clip_width(clip)})


def _loop(session: Session, arguments: Mapping[str, Any]) -> None:
    images = TrainingImages(arguments["files"], arguments["config"].resize)
    train_clip(session, arguments["config"].training, images, arguments["captions"])


STAGE = Stage(
    name="train_teacher",
    version=1,
    inputs={"images": ("images",), "captions": ("captions",)},
    output="clip",
    run=train_teacher,
    resumable=True,
)
