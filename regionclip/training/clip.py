"""Plain CLIP: images against their captions, no boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from regionclip.clip_models import create_clip
from regionclip.images import CLIP_MEAN, CLIP_STD
from regionclip.losses import gather_with_gradient, image_text_loss
from regionclip.prompts import tokenize
from regionclip.training.images import TrainingImages
from regionclip.training.loop import run_steps
from regionclip.training.order import batch_indices, rank_slice, step_rng
from regionclip.training.schedule import OptimizerConfig
from regionclip.training.session import Session

MAX_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class ClipTrainingConfig:
    """A contrastive training from random weights; `batch_size` counts the images of all workers together.

    model: an open_clip ResNet name or one of `model_configs/`.
    short_steps: that many first steps see only the images whose captions are the shorter half, which are mostly
        those of a single thing; names are learned from them.
    bfloat16: compute the image tower's convolutions in that type.
    """

    model: str = "rgc-rn-w20"
    num_steps: int = 4500
    batch_size: int = 96
    seed: int = 0
    short_steps: int = 500
    bfloat16: bool = True
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            name="adamw", learning_rate=1.5e-3, weight_decay=0.02, clip_norm=None, schedule="cosine", warmup_steps=100
        )
    )


def train_clip(
    session: Session, config: ClipTrainingConfig, images: TrainingImages, captions: Sequence[Sequence[str]]
) -> dict[str, Tensor]:
    """Train a CLIP and return its state, on the CPU; one caption of each image is drawn at a time.

    captions: those of each image, by index. Raises ValueError when an image has none or the lengths differ.
    """
    if len(captions) != len(images):
        raise ValueError(f"captions of {len(captions)} images for {len(images)} images; give one list an image")
    torch.manual_seed(config.seed)
    clip = create_clip(config.model).train().to(session.device)
    clip.visual.to(memory_format=torch.channels_last)
    tokens, counts = _caption_table(captions, int(clip.context_length))
    mine = rank_slice(config.batch_size, session.rank, session.world_size)
    gather = gather_with_gradient if session.world_size > 1 else None

    by_length = np.argsort((tokens > 0).sum(dim=(1, 2)).numpy() / counts, kind="stable")

    def draw(step: int) -> tuple[NDArray[np.int64], Tensor]:
        num_items = (len(images) + 1) // 2 if step < config.short_steps else len(images)
        indices = by_length[batch_indices(num_items, config.batch_size, config.seed, step)]
        chosen = (step_rng(config.seed, step).random(config.batch_size) * counts[indices]).astype(np.int64)
        return indices[mine], tokens[indices[mine], chosen[mine]]

    def losses(step: int) -> Mapping[str, Tensor]:
        indices, texts = draw(step)
        batch = images.batch(indices, np.zeros(len(indices), np.bool_))
        images.prefetch(draw(step + 1)[0])
        pixels = batch.normalized(CLIP_MEAN, CLIP_STD, session.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(session.device.type, torch.bfloat16, enabled=config.bfloat16):
            raw = clip.encode_image(pixels)
        image_features = functional.normalize(raw.float(), dim=-1)  # [B, D]
        text_features = functional.normalize(clip.encode_text(texts.to(session.device)), dim=-1)  # [B, D]
        temperature = 1 / clip.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
        return {"loss_image_text": image_text_loss(image_features, text_features, temperature, gather)}

    return run_steps(session, clip, losses, config.optimizer, config.num_steps, config.seed)


def _caption_table(captions: Sequence[Sequence[str]], context_length: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Tokens [N, most captions of an image, context_length], zeros after an image's last, and the counts [N]."""
    counts = np.array([len(of_image) for of_image in captions], np.int64)
    if not counts.all():
        raise ValueError(f"image {int(np.argmin(counts))} of {len(captions)} has no caption; leave such images out")
    table = torch.zeros(len(captions), int(counts.max()), context_length, dtype=torch.int64)
    flat = tokenize([text for of_image in captions for text in of_image], context_length)
    rows = np.repeat(np.arange(len(captions)), counts)
    columns = np.concatenate([np.arange(count) for count in counts])
    table[torch.from_numpy(rows), torch.from_numpy(columns)] = flat
    return table, counts
