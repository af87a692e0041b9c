"""Images + base boxes -> a class-agnostic proposer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from regionclip.grouped import grouped_rows
from regionclip.proposals.network import ProposalNetwork, save_proposer
from regionclip.training.proposer import ProposerArguments, ProposerTrainingConfig
from regionclip.training.proposer import train_proposer as train
from regionclip.training.session import Session
from stages.contract import Artifact, Context, Result, Stage
from stages.listed_images import image_files
from stages.parts import read_table
from stages.training import fit


def train_proposer(context: Context, config: ProposerTrainingConfig, images: Artifact, boxes: Artifact) -> Result:
    """Write the proposer, trained on the images that have a box (crowds left out)."""
    rows = read_table(boxes, "boxes")
    rows = rows.filter(np.logical_not(rows["is_crowd"].to_numpy()))
    owners = rows["image_id"].to_numpy()
    if not len(owners):
        raise ValueError(f"boxes {boxes.key} hold no box to learn from; check split and classes")
    image_ids = np.unique(owners)
    columns = {"boxes": rows["box"].combine_chunks().flatten().to_numpy().reshape(-1, 4)}
    truth = grouped_rows(owners, image_ids, columns)
    arguments = ProposerArguments(config, image_files(images, image_ids), truth)
    context.advance(0, config.num_steps, "steps")
    state = fit(context, _loop, {"arguments": arguments})
    proposer = ProposalNetwork(config.proposer)
    proposer.load_state_dict(state["model"])
    with context.folder.staging() as folder:
        save_proposer(proposer, folder)
    return Result(metrics={"num_images": len(image_ids), "num_boxes": len(owners)})


def _loop(session: Session, arguments: Mapping[str, Any]) -> None:
    train(session, arguments["arguments"])


STAGE = Stage(
    name="train_proposer",
    version=1,
    inputs={"images": ("images",), "boxes": ("boxes",)},
    output="proposer",
    run=train_proposer,
    resumable=True,
)
