"""Optimizers, learning rates by step and gradient clipping, as functions without hidden state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimizerConfig:
    """How parameters move. The defaults are the method's; `clip_norm` bounds each parameter tensor by itself.

    milestones: steps from which the rate is multiplied by `decay` (schedule 'steps').
    """

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.002
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float | None = 5.0
    schedule: Literal["constant", "steps", "cosine"] = "steps"
    warmup_steps: int = 1000
    warmup_factor: float = 1e-3
    milestones: tuple[int, ...] = ()
    decay: float = 0.1


def learning_rate(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """The rate of one step (counted from 0): linear warm-up times a constant, stepped or cosine course."""
    rate = config.learning_rate
    if config.schedule == "steps":
        rate *= config.decay ** sum(step >= milestone for milestone in config.milestones)
    elif config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
        rate *= 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    if step < config.warmup_steps:
        rate *= config.warmup_factor + (1 - config.warmup_factor) * step / config.warmup_steps
    return rate


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over the given parameters, one rate and one weight decay for all."""
    if config.name == "adamw":
        return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )


def clip_gradients(gradients: Iterable[Tensor], max_norm: float) -> None:
    """Scale each tensor, in place, so that its own L2 norm is at most `max_norm`."""
    for gradient in gradients:
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
