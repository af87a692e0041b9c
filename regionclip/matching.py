"""Regions to concepts: the distribution of the teacher over a pool, and which regions it is sure of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cosine_logits(features: Tensor, embeddings: Tensor, temperature: float) -> Tensor:
    """cos(features [R, D], embeddings [N, D]) / temperature as [R, N], at least float32 even under autocast.

    At the method's temperature of 0.01 a half-precision cosine would be wrong by 0.1 in the logit.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be positive; the method uses 0.01")
    precise = torch.promote_types(torch.promote_types(features.dtype, embeddings.dtype), torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        normalized = functional.normalize(features.to(precise), dim=-1)
        return normalized @ functional.normalize(embeddings.to(precise), dim=-1).T / temperature


def match(
    region_features: Tensor, concept_embeddings: Tensor, temperature: float, log_prior: Tensor | None = None
) -> Tensor:
    """Log-probabilities [R, N] of the concepts [N, D] for each region [R, D]: log_softmax(cos / temperature).

    Neither side needs to be normalised. `log_prior` [R, N] (or broadcast to it) is added to the logits: -inf
    excludes a concept, a finite value weights it. Raises ValueError where a prior excludes every concept.
    """
    if not len(concept_embeddings):
        raise ValueError("the concept pool is empty; give at least one concept to match regions with")
    logits = cosine_logits(region_features, concept_embeddings, temperature)
    if log_prior is not None:
        logits = logits + _checked_prior(log_prior.to(logits), logits.shape)
    return logits.log_softmax(dim=-1)


def _checked_prior(log_prior: Tensor, shape: torch.Size) -> Tensor:
    log_prior = log_prior.expand(shape)
    if not bool((log_prior < torch.inf).all()):
        raise ValueError("log_prior holds NaN or +inf; give finite weights, or -inf to exclude a concept")
    impossible = (log_prior == -torch.inf).all(dim=-1).nonzero()
    if len(impossible):
        raise ValueError(
            f"log_prior excludes every concept for {len(impossible)} regions, first is row {int(impossible[0])}; "
            "leave at least one concept possible or leave these regions out"
        )
    return log_prior


def confident(scores: Tensor, threshold: float, keep_all_if_none: bool) -> Tensor:
    """Which scores [R] exceed the threshold, bool [R]; all of them when none does and `keep_all_if_none`."""
    mask = scores > threshold
    if keep_all_if_none and not bool(mask.any()):
        return torch.ones_like(mask)
    return mask
