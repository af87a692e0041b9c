"""The losses of open-vocabulary fine-tuning, each of which is 0 (with a gradient path) when there are no regions."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from regionclip.boxes import HEAD_WEIGHTS, DeltaWeights, encode_deltas


def focal_scaled_cross_entropy(logits: Tensor, labels: Tensor, gamma: float, background_weight: float) -> Tensor:
    """Sum of w (1 - p_t)^gamma CE over the R regions, divided by R; the factor carries gradient and is not detached.

    logits [R, K+1] with background last, labels [R] in 0..K; w is `background_weight` for background, else 1.
    """
    if len(logits) == 0:
        return logits.sum() * 0
    log_probabilities = functional.log_softmax(logits, dim=1)
    log_p = log_probabilities.gather(1, labels[:, None]).squeeze(1)
    # clamped away from 0: the derivative of x^gamma is infinite there when gamma < 1
    miss = (-log_p.expm1()).clamp(min=1e-12)
    return (_weights(labels, logits, background_weight) * miss**gamma * -log_p).mean()


def weighted_cross_entropy(logits: Tensor, labels: Tensor, background_weight: float) -> Tensor:
    """Weighted sum of cross-entropies divided by the sum of the weights; arguments as `focal_scaled_cross_entropy`."""
    if len(logits) == 0:
        return logits.sum() * 0
    weights = _weights(labels, logits, background_weight)
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return (weights * losses).sum() / weights.sum()


def box_regression_loss(
    deltas: Tensor, proposals: Tensor, targets: Tensor, foreground: Tensor, weights: DeltaWeights = HEAD_WEIGHTS
) -> Tensor:
    """L1 distance of deltas to the encoded targets, summed over the foreground and divided by all R regions.

    deltas, proposals and targets [R, 4]; foreground [R] bool; rows of targets outside the foreground are not read.
    """
    if not bool(foreground.any()):
        return deltas.sum() * 0
    encoded = encode_deltas(proposals[foreground], targets[foreground], weights)
    return (deltas[foreground] - encoded).abs().sum() / len(deltas)


def _weights(labels: Tensor, logits: Tensor, background_weight: float) -> Tensor:
    background = labels == logits.shape[1] - 1
    return logits.new_ones(len(labels)).masked_fill(background, background_weight)
