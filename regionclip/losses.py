"""The three losses of region pretraining. Features and embeddings need not be normalised; an empty set gives 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional

from regionclip.matching import cosine_logits


def region_distillation_loss(
    region_features: Tensor, concept_embeddings: Tensor, teacher_log_probabilities: Tensor, temperature: float
) -> Tensor:
    """Mean over regions [M, D] of KL(teacher [M, N] || student), the student being softmax(cos / temperature).

    -inf in the teacher's log-probabilities means a concept that it excludes.
    """
    if not len(region_features):
        return _zero(region_features)
    student = cosine_logits(region_features, concept_embeddings, temperature).log_softmax(dim=-1)
    teacher = teacher_log_probabilities.detach().to(student)
    probabilities = teacher.exp()
    divergence = probabilities * (teacher.masked_fill(probabilities == 0, 0.0) - student)  # [M, N]
    return divergence.sum(dim=-1).mean()


def concept_contrastive_loss(
    region_features: Tensor, target_embeddings: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """-mean_i log(sum over j with the label of i of exp(s_ij) / sum over all j of exp(s_ij)), s = cos / temperature.

    Regions [M, D], the embedding of each one's label [M, D] and the labels [M]; one direction, region to text. A
    concept that labels several regions is as many columns.
    """
    if not len(region_features):
        return _zero(region_features)
    logits = cosine_logits(region_features, target_embeddings, temperature)  # [M, M]
    other = labels[:, None] != labels[None, :]
    return (logits.logsumexp(dim=-1) - logits.masked_fill(other, -torch.inf).logsumexp(dim=-1)).mean()


def image_text_loss(
    image_features: Tensor,
    text_features: Tensor,
    temperature: float,
    gather: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """CLIP's symmetric cross-entropy of images [B, D] and their texts [B, D] at a fixed temperature.

    `gather` brings the rows of all processes together first, as `gather_with_gradient` does.
    """
    if gather is not None:
        image_features, text_features = gather(image_features), gather(text_features)
    if not len(image_features):
        return _zero(image_features)
    logits = cosine_logits(image_features, text_features, temperature)  # [B, B]
    targets = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


def gather_with_gradient(tensor: Tensor, group: distributed.ProcessGroup | None = None) -> Tensor:
    """The rows of all processes, in order of rank, each cut to the smallest number of rows; itself without a group.

    The gradient of a row is the sum of the gradients that all processes give it, so a loss computed equally on
    each of them has the gradient of one process once the gradients of the parameters are averaged.
    """
    group = group or distributed.group.WORLD
    if group is None:
        return tensor
    rows = torch.tensor(len(tensor), device=tensor.device)
    distributed.all_reduce(rows, distributed.ReduceOp.MIN, group)
    gathered: Tensor = _Gather.apply(tensor[: int(rows)], group)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor, group: distributed.ProcessGroup) -> Tensor:
        context.group = group
        parts = [torch.empty_like(tensor) for _ in range(group.size())]
        distributed.all_gather(parts, tensor.contiguous(), group)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient, group=context.group)
        rows = len(gradient) // context.group.size()
        first = rows * context.group.rank()
        return gradient[first : first + rows], None


def _zero(features: Tensor) -> Tensor:
    return features.float().sum() * 0.0
