"""Region-level pretraining: the student learns from region labels and captions (distillation, contrast, image-text)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip import CLIP
from torch import Tensor
from torch.nn import functional

from regionclip.clip_models import known_pixels
from regionclip.grouped import Grouped
from regionclip.images import ResizeConfig
from regionclip.losses import (
    concept_contrastive_loss,
    gather_with_gradient,
    image_text_loss,
    region_distillation_loss,
)
from regionclip.prompts import encode_texts
from regionclip.region_encoder import RegionEncoder, freeze, whole_image_boxes
from regionclip.training.images import ImageBatch, ImageFiles, TrainingImages
from regionclip.training.loop import run_steps
from regionclip.training.order import batch_indices, rank_slice, step_rng
from regionclip.training.schedule import OptimizerConfig
from regionclip.training.session import Session

_TEXT_BATCH = 256


@dataclass(frozen=True)
class LossWeights:
    """The factor of each loss; one of weight 0 is not computed."""

    distillation: float = 1.0
    contrastive: float = 1.0
    image_text: float = 1.0


@dataclass(frozen=True)
class PretrainConfig:
    """The method's pretraining; `batch_size` counts images of all workers, `flip` is a probability.

    regions_per_image: at most so many regions of an image a step, drawn at random.
    draw_from: draw them from the 'kept' regions, or, as the reference does, from 'all' and train on the kept of these.
    captions_per_image: the first so many captions of an image, one drawn a step.
    if_none_kept: what a worker does when no region of its batch is confident: 'skip' the region losses, or
    'keep_all' regions, as the reference does.
    image_box: the box of the whole image: the 'image' alone, or with the 'padded' rest of its batch, as the reference.
    """

    losses: LossWeights = field(default_factory=LossWeights)
    temperature: float = 0.01
    batch_size: int = 96
    num_steps: int = 600_000
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(milestones=(300_000, 525_000)))
    regions_per_image: int = 100
    captions_per_image: int = 5
    draw_from: Literal["kept", "all"] = "kept"
    if_none_kept: Literal["skip", "keep_all"] = "skip"
    image_box: Literal["padded", "image"] = "image"
    freeze_until: int = 2
    flip: float = 0.5
    resize: ResizeConfig = field(default_factory=lambda: ResizeConfig(rule="pretraining"))
    seed: int = 0


@dataclass(frozen=True)
class PretrainArguments:
    """What `pretrain` needs, image i of `regions` and `captions` being `images.names[i]`.

    clip: the start of the student, with its text tower. concept_embeddings: [N, D], student side.
    regions: columns boxes [R, 4], concept_ids [R, k], log_probabilities [R, k] and keep [R].
    captions: column index [C] into `texts`.
    """

    config: PretrainConfig
    clip: CLIP
    concept_embeddings: Tensor
    images: ImageFiles
    regions: Grouped
    captions: Grouped
    texts: Sequence[str]


def pretrain(session: Session, arguments: PretrainArguments) -> dict[str, Tensor]:
    """Train the student and return the state of its image tower.

    Raises ValueError for data that cannot be trained on: no images, no captions, ids outside the pool, widths that
    differ.
    """
    config = arguments.config
    check_pretrain(arguments)
    share = rank_slice(config.batch_size, session.rank, session.world_size)
    student = _Student(session, arguments)
    num_images = len(arguments.regions)

    def losses(step: int) -> dict[str, Tensor]:
        indices = batch_indices(num_images, config.batch_size, config.seed, step)
        if step + 1 < config.num_steps:
            student.images.prefetch(batch_indices(num_images, config.batch_size, config.seed, step + 1)[share])
        return student.losses(indices, share, step_rng(config.seed, step))

    encoder = student.encoder
    state = run_steps(session, encoder, losses, config.optimizer, config.num_steps, config.seed)
    return {name.removeprefix("visual."): value for name, value in state.items()}


def check_pretrain(arguments: PretrainArguments) -> None:
    """Raise ValueError when the arguments do not belong together or leave nothing to learn."""
    weights, regions, embeddings = arguments.config.losses, arguments.regions, arguments.concept_embeddings
    width = RegionEncoder(arguments.clip.visual).width
    if not len(regions):
        raise ValueError("pretraining has no images; label regions of at least one image")
    if embeddings.shape[1] != width:
        raise ValueError(
            f"the concept embeddings are {embeddings.shape[1]} wide, the student {width}; "
            "embed the concepts with the student's text tower"
        )
    if min(weights.distillation, weights.contrastive, weights.image_text) < 0 or weights == LossWeights(0, 0, 0):
        raise ValueError(f"loss weights are {weights}; give no negative one and at least one above 0")
    largest = int(regions["concept_ids"].max(initial=-1))
    if largest >= len(embeddings):
        raise ValueError(
            f"a region is labelled with concept {largest}, but the pool has {len(embeddings)}; "
            "give the embeddings of the pool that labelled the regions"
        )
    if weights.image_text and not len(arguments.captions["index"]):
        raise ValueError("none of the images has a caption; give their captions or set losses.image_text to 0")
    if not weights.image_text and arguments.config.if_none_kept == "skip" and not regions["keep"].any():
        raise ValueError("no region is kept and losses.image_text is 0; label with a lower threshold")


def teacher_distribution(concept_ids: Tensor, log_probabilities: Tensor, num_concepts: int) -> Tensor:
    """Log-probabilities [M, N] over the pool from the stored likeliest k: ids [M, k] and values [M, k].

    The stored values stay as they are and what they leave of 1 is spread evenly over the other N - k concepts, so
    the result is exact when k = N.
    """
    rest = (1 - log_probabilities.double().exp().sum(dim=1, keepdim=True)).clamp(min=0)
    others = max(1, num_concepts - concept_ids.shape[1])
    tail = (rest / others).log().to(log_probabilities.dtype)  # [M, 1]
    return tail.repeat(1, num_concepts).scatter(1, concept_ids.long(), log_probabilities)


class _Student:
    """The encoder in training with everything that its losses read, on the session's device."""

    def __init__(self, session: Session, arguments: PretrainArguments) -> None:
        self.config = arguments.config
        self.device = session.device
        self.world_size = session.world_size
        self.pixels = known_pixels(arguments.clip)
        self.regions = arguments.regions
        self.captions = arguments.captions
        self.images = TrainingImages(arguments.images, self.config.resize)
        self.concepts = functional.normalize(arguments.concept_embeddings.float(), dim=-1).to(self.device)
        self.texts = _text_features(arguments, self.device) if self.config.losses.image_text else torch.empty(0)
        encoder = RegionEncoder(arguments.clip.visual).train()
        self.encoder = encoder.to(self.device).to(memory_format=torch.channels_last)
        freeze(self.encoder, self.config.freeze_until)

    def losses(self, indices: NDArray[np.int64], share: slice, rng: np.random.Generator) -> dict[str, Tensor]:
        """The weighted losses of this worker's `share` of the global batch `indices`."""
        config, weights = self.config, self.config.losses
        captions = draw_captions(self.captions, indices, config.captions_per_image, rng)[share]
        flipped = rng.random(len(indices)) < config.flip
        rows, owner = draw_regions(self.regions, indices, share, config, rng)
        batch = self.images.batch(indices[share], flipped[share])
        pixels = batch.normalized(*self.pixels, self.device)
        boxes = torch.from_numpy(batch.place(self.regions["boxes"][rows], owner)).to(self.device)
        counts = np.bincount(owner, minlength=len(batch.sizes))
        parts: Sequence[Tensor] = torch.split(boxes, counts.tolist())
        if not weights.image_text:
            return self._region_losses(self.encoder.region_features(pixels, parts), rows)
        whole = _image_boxes(batch, config.image_box, self.device)
        parts = [torch.cat(pair) for pair in zip(whole, parts, strict=True)]
        features = self.encoder.region_features(pixels, parts)
        first = torch.from_numpy(np.cumsum(counts + 1) - counts - 1).to(self.device)
        is_region = torch.ones(len(features), dtype=torch.bool, device=self.device).index_fill_(0, first, False)
        image_text = weights.image_text * self._image_text(features[first], captions)
        return {"image_text": image_text} | self._region_losses(features[is_region], rows)

    def _region_losses(self, features: Tensor, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        weights, temperature = self.config.losses, self.config.temperature
        ids = torch.from_numpy(self.regions["concept_ids"][rows]).to(self.device, torch.int64)
        terms: dict[str, Tensor] = {}
        if weights.distillation:
            stored = torch.from_numpy(self.regions["log_probabilities"][rows]).to(self.device)
            target = teacher_distribution(ids, stored, len(self.concepts))
            loss = region_distillation_loss(features, self.concepts, target, temperature)
            terms["distillation"] = weights.distillation * loss
        if weights.contrastive:
            labels = ids[:, 0]
            loss = concept_contrastive_loss(features, self.concepts[labels], labels, temperature)
            terms["contrastive"] = weights.contrastive * loss
        return terms

    def _image_text(self, features: Tensor, captions: NDArray[np.int64]) -> Tensor:
        captioned = torch.from_numpy(np.flatnonzero(captions >= 0)).to(self.device)
        texts = self.texts[torch.from_numpy(captions).to(self.device)[captioned]]
        gather = gather_with_gradient if self.world_size > 1 else None
        return image_text_loss(features[captioned], texts, self.config.temperature, gather)


def draw_captions(
    captions: Grouped, indices: NDArray[np.int64], most: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """One of the first `most` captions of each image of `indices` [B], as its text index; -1 where there is none."""
    counts = np.minimum(captions.counts(indices), most)
    chosen = captions.offsets[indices] + (rng.random(len(indices)) * counts).astype(np.int64)
    drawn = np.full(len(indices), -1, dtype=np.int64)
    drawn[counts > 0] = captions["index"][chosen[counts > 0]]
    return drawn


def draw_regions(
    regions: Grouped, indices: NDArray[np.int64], share: slice, config: PretrainConfig, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The regions that the worker of `share` trains on: rows, and which image of its share each lies in.

    Kept regions only, in stored order, at most `regions_per_image` of an image: drawn from these, or from all its
    regions before any is left out.
    """
    if not (config.losses.distillation or config.losses.contrastive):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows, owner = regions.rows(indices)
    chance = rng.random(len(rows))
    mine = (owner >= share.start) & (owner < share.stop)
    rows, owner, chance = rows[mine], owner[mine] - share.start, chance[mine]
    if config.draw_from == "all":
        drawn = _drawn(owner, chance, config.regions_per_image)
        rows, owner, chance = rows[drawn], owner[drawn], chance[drawn]
    keep = regions["keep"][rows]
    if keep.any() or config.if_none_kept == "skip":
        rows, owner, chance = rows[keep], owner[keep], chance[keep]
    drawn = _drawn(owner, chance, config.regions_per_image)
    return rows[drawn], owner[drawn]


def _drawn(owner: NDArray[np.int64], chance: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Of each owner [R], sorted, the `most` places of least chance [R], in order."""
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    return np.sort(np.lexsort((chance, owner))[rank < most])


def _image_boxes(batch: ImageBatch, rule: Literal["padded", "image"], device: torch.device) -> list[Tensor]:
    height, width = batch.pixels.shape[-2:]
    sizes = [(h, w) for h, w in batch.sizes.tolist()] if rule == "image" else [(height, width)] * len(batch.sizes)
    return whole_image_boxes(sizes, device)


@torch.no_grad()
def _text_features(arguments: PretrainArguments, device: torch.device) -> Tensor:
    """L2-normalised features [C, D] of the texts that the run draws; rows of the others stay zero."""
    used = _texts_used(arguments)
    clip = arguments.clip.to(device).eval()
    raw = encode_texts(clip, [arguments.texts[index] for index in used.tolist()], _TEXT_BATCH)
    features = torch.zeros(len(arguments.texts), raw.shape[1], device=device)
    features[torch.from_numpy(used).to(device)] = functional.normalize(raw.float(), dim=-1)
    return features


def _texts_used(arguments: PretrainArguments) -> NDArray[np.int64]:
    config, captions = arguments.config, arguments.captions
    every = np.unique(captions["index"])
    if config.num_steps * config.batch_size >= len(every):
        return every
    drawn = []
    for step in range(config.num_steps):
        indices = batch_indices(len(captions), config.batch_size, config.seed, step)
        drawn.append(draw_captions(captions, indices, config.captions_per_image, step_rng(config.seed, step)))
    used = np.unique(np.concatenate(drawn))
    return used[used >= 0]
