"""Training of the localiser: a class-agnostic region proposal network on boxes of base classes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from regionclip.grouped import Grouped
from regionclip.images import ResizeConfig
from regionclip.proposals.network import IMAGENET_MEAN, IMAGENET_STD, ProposalNetwork, ProposerConfig
from regionclip.training.images import ImageFiles, TrainingImages
from regionclip.training.loop import run_steps
from regionclip.training.order import batch_indices, rank_slice, step_rng
from regionclip.training.schedule import OptimizerConfig
from regionclip.training.session import Session


@dataclass(frozen=True)
class ProposerTrainingConfig:
    """A training from random weights; `batch_size` counts images of all workers, `flip` is a probability."""

    proposer: ProposerConfig = field(default_factory=ProposerConfig)
    batch_size: int = 16
    num_steps: int = 2000
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            name="adamw", learning_rate=1e-3, weight_decay=1e-4, schedule="cosine", warmup_steps=100
        )
    )
    flip: float = 0.5
    resize: ResizeConfig = field(default_factory=ResizeConfig)
    seed: int = 0


@dataclass(frozen=True)
class ProposerArguments:
    """What `train_proposer` needs: column boxes [G, 4] of `truth`, image i being `images.names[i]`."""

    config: ProposerTrainingConfig
    images: ImageFiles
    truth: Grouped


def train_proposer(session: Session, arguments: ProposerArguments) -> dict[str, Tensor]:
    """Train a proposer and return its state; ValueError when there is no box to learn from."""
    config, truth = arguments.config, arguments.truth
    if not len(truth["boxes"]):
        raise ValueError("no image has a box of a base class; check the base class names against the annotations")
    torch.manual_seed(config.seed)
    proposer = ProposalNetwork(config.proposer).to(session.device).train()
    images = TrainingImages(arguments.images, config.resize)
    share = rank_slice(config.batch_size, session.rank, session.world_size)

    def losses(step: int) -> dict[str, Tensor]:
        indices = batch_indices(len(truth), config.batch_size, config.seed, step)
        if step + 1 < config.num_steps:
            images.prefetch(batch_indices(len(truth), config.batch_size, config.seed, step + 1)[share])
        flipped = step_rng(config.seed, step).random(len(indices)) < config.flip
        indices = indices[share]
        batch = images.batch(indices, flipped[share])
        pixels = batch.normalized(IMAGENET_MEAN, IMAGENET_STD, session.device)
        return proposer.losses(pixels, batch.boxes(truth, indices))

    return run_steps(session, proposer, losses, config.optimizer, config.num_steps, config.seed)
