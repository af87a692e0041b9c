"""Region labels + images + captions -> a region encoder: the student of region-level pretraining."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from regionclip.clip_models import clip_width, load_clip, save_clip
from regionclip.embeddings import check_width, load_embeddings, order_sha256
from regionclip.grouped import Grouped, grouped_lists, grouped_rows
from regionclip.training.pretrain import PretrainArguments, PretrainConfig, check_pretrain
from regionclip.training.pretrain import pretrain as train
from regionclip.training.session import Session
from stages.contract import Artifact, Context, Result, Stage
from stages.listed_images import image_files
from stages.parts import read_table
from stages.training import fit


def pretrain(
    context: Context,
    config: PretrainConfig,
    clip: Artifact,
    region_labels: Artifact,
    embeddings: Artifact,
    images: Artifact,
    captions: Artifact | None = None,
) -> Result:
    """Write the student as a whole CLIP: its trained image tower beside the frozen text tower."""
    model = load_clip(clip.folder.local())
    description = json.loads(clip.folder.read("clip.json"))
    concepts, table = load_embeddings(embeddings.folder.local())
    check_width(table, clip_width(model), f"embeddings {embeddings.key}")
    _check_pool(region_labels, concepts)
    columns = ["boxes", "concept_ids", "log_probabilities", "keep"]
    labels = read_table(region_labels, "region_labels", ["image_id", *columns])
    image_ids = labels["image_id"].to_numpy()
    texts, by_image = _captions(captions, image_ids)
    arguments: dict[str, Any] = {
        "config": config,
        "concept_embeddings": table,
        "images": image_files(images, image_ids),
        "regions": grouped_lists(labels, columns),
        "captions": by_image,
        "texts": texts,
    }
    checked = PretrainArguments(clip=model, **arguments)
    check_pretrain(checked)
    context.advance(0, config.num_steps, "steps")
    state = fit(context, _loop, {"clip": clip.folder, **arguments})
    visual = {name.removeprefix("visual."): value for name, value in state["model"].items()}
    model.visual.load_state_dict(visual)
    provenance = {**description.get("provenance", {}), "trained_by": "pretrain", "num_steps": config.num_steps}
    with context.folder.staging() as folder:
        save_clip(model, description["model"], folder, provenance=provenance)
    return Result(metrics={"num_images": len(image_ids), "num_kept_regions": int(checked.regions["keep"].sum())})


def _check_pool(region_labels: Artifact, concepts: list[str]) -> None:
    labelled = json.loads(region_labels.folder.read("concepts.json"))
    if labelled["order_sha256"] != order_sha256(concepts):
        raise ValueError(
            f"region labels {region_labels.key} were made with {len(labelled['concepts'])} concepts of another list or "
            f"order than the {len(concepts)} embedded ones; label the regions with this pool"
        )


def _captions(captions: Artifact | None, image_ids: NDArray[np.int64]) -> tuple[list[str], Grouped]:
    """All captions, and of each image the rows of its own."""
    if captions is None:
        return [], grouped_rows(np.empty(0, np.int64), image_ids, {"index": np.empty(0, np.int64)})
    table = read_table(captions, "captions", ["image_id", "caption"])
    table = table.filter(pc.is_valid(table["image_id"]))
    index = {"index": np.arange(len(table), dtype=np.int64)}
    return table["caption"].to_pylist(), grouped_rows(table["image_id"].to_numpy(), image_ids, index)


def _loop(session: Session, arguments: Mapping[str, Any]) -> None:
    train(session, PretrainArguments(**{**arguments, "clip": load_clip(arguments["clip"].local())}))


STAGE = Stage(
    name="pretrain",
    version=1,
    inputs={
        "clip": ("clip", "region_encoder"),
        "region_labels": ("region_labels",),
        "embeddings": ("embeddings",),
        "images": ("images",),
        "captions": ("captions",),
    },
    output="region_encoder",
    run=pretrain,
    optional=frozenset({"captions"}),
    resumable=True,
)
