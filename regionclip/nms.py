"""Non-maximum suppression within each class, without the coordinate offsets that cost float precision."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import nms

from regionclip.boxes import paired_iou

SoftNms = Literal["gaussian", "linear"]


def per_class_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Indices [k] of the boxes that no better box of the same label overlaps by more than `iou`, best score first.

    boxes [n, 4], scores [n], labels [n] integer; ties keep the order of the input.
    """
    order = torch.argsort(labels, stable=True)
    _, counts = torch.unique_consecutive(labels[order], return_counts=True)
    kept = [group[nms(boxes[group], scores[group], iou)] for group in torch.split(order, counts.tolist())]
    keep = torch.cat(kept).sort().values if kept else order
    return keep[scores[keep].argsort(descending=True, stable=True)]


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    method: SoftNms = "gaussian",
    sigma: float = 0.5,
    iou: float = 0.5,
    prune: float = 0.001,
    limit: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS (arXiv 1704.04503) within each label: (indices [k], decayed scores [k]), best decayed score first.

    Every box chosen multiplies the scores of the others of its label by exp(-IoU^2 / sigma) ("gaussian"), or by
    1 - IoU where IoU is above `iou` ("linear"). Boxes whose score is not above `prune` after a decay are dropped.
    `limit` bounds the boxes kept of one label. Scores must not be negative.
    """
    groups = _padded_groups(labels)  # [C, m], C = labels present, m = most boxes of a label; -1 pads
    remaining = torch.where(groups >= 0, scores[groups], 0.0)
    remaining = torch.where(remaining > prune, remaining, 0.0)
    grouped_boxes = boxes[groups]  # [C, m, 4]
    rows = torch.arange(len(groups), device=groups.device)
    chosen: list[Tensor] = []
    chosen_scores: list[Tensor] = []
    for _ in range(groups.shape[1] if limit is None else min(limit, groups.shape[1])):
        best_scores, best = remaining.max(dim=1)
        alive = best_scores > 0
        if not bool(alive.any()):
            break
        chosen.append(groups[rows, best][alive])
        chosen_scores.append(best_scores[alive])
        overlaps = paired_iou(grouped_boxes, grouped_boxes[rows, best][:, None])
        remaining = remaining * _decay(overlaps, method, sigma, iou)
        remaining = torch.where(remaining > prune, remaining, 0.0)
        remaining[rows, best] = 0.0
    if not chosen:
        return labels.new_empty(0), scores.new_empty(0)
    keep, decayed = torch.cat(chosen), torch.cat(chosen_scores)
    order = decayed.argsort(descending=True, stable=True)
    return keep[order], decayed[order]


def _decay(overlaps: Tensor, method: SoftNms, sigma: float, iou: float) -> Tensor:
    if method == "gaussian":
        return torch.exp(-overlaps.square() / sigma)
    if method == "linear":
        return torch.where(overlaps > iou, 1 - overlaps, 1.0)
    raise ValueError(f"Soft-NMS method is '{method}'; choose 'gaussian' or 'linear'")


def _padded_groups(labels: Tensor) -> Tensor:
    """Indices of the boxes of each label present, one row a label, padded with -1."""
    if len(labels) == 0:
        return torch.empty((0, 0), dtype=torch.int64, device=labels.device)
    order = torch.argsort(labels, stable=True)
    _, counts = torch.unique_consecutive(labels[order], return_counts=True)
    groups = list(torch.split(order, counts.tolist()))
    return pad_sequence(groups, batch_first=True, padding_value=-1)
