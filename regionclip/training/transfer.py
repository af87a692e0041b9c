"""Transfer to detection: a region encoder becomes an open-vocabulary detector, trained on boxes of base classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip import CLIP
from torch import Tensor

from regionclip.clip_models import known_pixels
from regionclip.detector import BoxTargets, DetectionLossConfig, OpenVocabularyDetector
from regionclip.grouped import Grouped
from regionclip.images import ResizeConfig
from regionclip.open_vocabulary import OpenVocabularyHead
from regionclip.proposals.proposer import Proposals
from regionclip.region_encoder import RegionEncoder, freeze
from regionclip.training.images import ImageBatch, ImageFiles, TrainingImages
from regionclip.training.loop import run_steps
from regionclip.training.order import batch_indices, rank_slice, step_rng
from regionclip.training.schedule import OptimizerConfig
from regionclip.training.session import Session


@dataclass(frozen=True)
class TransferConfig:
    """The method's transfer; `batch_size` counts images of all workers, `flip` is a probability.

    samples_per_image: proposals in the loss, at most `foreground_fraction` of them on an object.
    classification_loss: 'focal' with exponent `gamma`, divided by all proposals, or 'weighted', divided by the sum
    of the weights; background counts `background_weight` in both.
    """

    batch_size: int = 16
    num_steps: int = 90_000
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(warmup_steps=5000, milestones=(60_000, 80_000), clip_norm=None)
    )
    classification_loss: Literal["focal", "weighted"] = "focal"
    gamma: float = 0.5
    background_weight: float = 0.2
    samples_per_image: int = 512
    foreground_fraction: float = 0.25
    foreground_iou: float = 0.5
    temperature: float = 0.01
    freeze_until: int = 2
    flip: float = 0.5
    resize: ResizeConfig = field(default_factory=ResizeConfig)
    seed: int = 0


@dataclass(frozen=True)
class TransferArguments:
    """What `transfer` needs, image i of `proposals` and `truth` being `images.names[i]`.

    clip: the region encoder's CLIP. classes: the base classes, with embeddings [K, D] in that order.
    proposals: columns boxes [R, 4] and objectness [R]. truth: columns boxes [G, 4] and labels [G], rows of `classes`.
    """

    config: TransferConfig
    clip: CLIP
    classes: Sequence[str]
    class_embeddings: Tensor
    images: ImageFiles
    proposals: Grouped
    truth: Grouped


def build_detector(arguments: TransferArguments) -> OpenVocabularyDetector:
    """The detector before its first step: the encoder of the CLIP, a fresh box regressor seeded by the config."""
    encoder = RegionEncoder(arguments.clip.visual)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(arguments.config.seed)
        head = OpenVocabularyHead(encoder.width, arguments.config.temperature)
    return OpenVocabularyDetector(encoder, head, arguments.classes, arguments.class_embeddings)


def transfer(session: Session, arguments: TransferArguments) -> dict[str, Tensor]:
    """Train the detector and return its state; ValueError when no image has a box of a base class."""
    config = arguments.config
    check_transfer(arguments)
    detector = build_detector(arguments).train().to(session.device).to(memory_format=torch.channels_last)
    freeze(detector.encoder, config.freeze_until)
    images = TrainingImages(arguments.images, config.resize)
    share = rank_slice(config.batch_size, session.rank, session.world_size)
    num_images = len(arguments.truth)
    sampling = DetectionLossConfig(
        num_samples=config.samples_per_image,
        foreground_fraction=config.foreground_fraction,
        foreground_iou=config.foreground_iou,
        focal_gamma=config.gamma if config.classification_loss == "focal" else None,
        background_weight=config.background_weight,
    )

    def losses(step: int) -> dict[str, Tensor]:
        indices = batch_indices(num_images, config.batch_size, config.seed, step)
        if step + 1 < config.num_steps:
            images.prefetch(batch_indices(num_images, config.batch_size, config.seed, step + 1)[share])
        flipped = step_rng(config.seed, step).random(len(indices)) < config.flip
        indices = indices[share]
        batch = images.batch(indices, flipped[share])
        pixels = batch.normalized(*known_pixels(arguments.clip), session.device)
        proposals = _proposals(arguments.proposals, indices, batch)
        return detector.losses(pixels, proposals, _targets(arguments.truth, indices, batch), sampling)

    return run_steps(session, detector, losses, config.optimizer, config.num_steps, config.seed)


def check_transfer(arguments: TransferArguments) -> None:
    """Raise ValueError when the arguments do not belong together or leave nothing to learn."""
    width = RegionEncoder(arguments.clip.visual).width
    if arguments.class_embeddings.shape != (len(arguments.classes), width):
        raise ValueError(
            f"the class embeddings are {list(arguments.class_embeddings.shape)}, but {len(arguments.classes)} base "
            f"classes and a width of {width} need {[len(arguments.classes), width]}; embed the base classes with the "
            "region encoder's text tower"
        )
    if not len(arguments.truth["labels"]):
        raise ValueError("no image has a box of a base class; check the base class names against the annotations")
    if arguments.config.classification_loss not in ("focal", "weighted"):
        raise ValueError(f"classification_loss is '{arguments.config.classification_loss}'; give focal or weighted")


def _proposals(proposals: Grouped, indices: NDArray[np.int64], batch: ImageBatch) -> list[Proposals]:
    rows, _ = proposals.rows(indices)
    objectness = torch.split(torch.from_numpy(proposals["objectness"][rows]), proposals.counts(indices).tolist())
    return [Proposals(*pair) for pair in zip(batch.boxes(proposals, indices), objectness, strict=True)]


def _targets(truth: Grouped, indices: NDArray[np.int64], batch: ImageBatch) -> list[BoxTargets]:
    rows, _ = truth.rows(indices)
    labels = torch.split(torch.from_numpy(truth["labels"][rows]), truth.counts(indices).tolist())
    return [BoxTargets(*pair) for pair in zip(batch.boxes(truth, indices), labels, strict=True)]
