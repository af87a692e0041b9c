"""Boxes as float tensors [..., 4] of absolute pixels, xyxy unless a name says otherwise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000.0 / 16.0)
"""Largest log(width ratio) that `decode_deltas` applies, so that exp stays finite."""

UNIT_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
"""Delta weights of a region proposal network."""

HEAD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Delta weights of a detection head."""

DeltaWeights = tuple[float, float, float, float]


def xywh_to_xyxy(boxes_xywh: Tensor) -> Tensor:
    """Corner boxes of COCO boxes (left, top, width, height)."""
    return torch.cat((boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]), dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """COCO boxes (left, top, width, height) of corner boxes."""
    return torch.cat((boxes[..., :2], boxes[..., 2:] - boxes[..., :2]), dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Areas [...] of boxes [..., 4]; 0 for a box without width or height."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU [...] of boxes that broadcast against each other; 0 where both are empty."""
    top_left = torch.maximum(first[..., :2], second[..., :2])
    bottom_right = torch.minimum(first[..., 2:], second[..., 2:])
    overlap = box_area(torch.cat((top_left, bottom_right), dim=-1))
    union = box_area(first) + box_area(second) - overlap
    return torch.where(union > 0, overlap / union, torch.zeros_like(overlap))


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU [n, m] of every box of `first` [n, 4] with every box of `second` [m, 4]."""
    return paired_iou(first[:, None], second[None, :])


def clip_boxes(boxes: Tensor, height: float, width: float) -> Tensor:
    """Boxes moved into [0, width] x [0, height]; one that lies outside becomes empty."""
    horizontal = boxes[..., 0::2].clamp(min=0, max=width)
    vertical = boxes[..., 1::2].clamp(min=0, max=height)
    return torch.stack((horizontal, vertical), dim=-1).flatten(-2)


def encode_deltas(proposals: Tensor, targets: Tensor, weights: DeltaWeights = HEAD_WEIGHTS) -> Tensor:
    """Deltas (dx, dy, dw, dh) that move proposals onto targets (R-CNN, arXiv 1311.2524, appendix C).

    Proposals and targets need a positive width and height.
    """
    centres, sides = _centres_and_sides(proposals)
    target_centres, target_sides = _centres_and_sides(targets)
    shifts = (target_centres - centres) / sides
    scales = torch.log(target_sides / sides)
    return torch.cat((shifts, scales), dim=-1) * proposals.new_tensor(weights)


def decode_deltas(proposals: Tensor, deltas: Tensor, weights: DeltaWeights = HEAD_WEIGHTS) -> Tensor:
    """Boxes that deltas make of proposals, the inverse of `encode_deltas`; both broadcast, [R, 1, 4] with [R, K, 4]."""
    centres, sides = _centres_and_sides(proposals)
    unweighted = deltas / deltas.new_tensor(weights)
    new_centres = centres + unweighted[..., :2] * sides
    half_sides = 0.5 * sides * torch.exp(unweighted[..., 2:].clamp(max=MAX_LOG_SCALE))
    return torch.cat((new_centres - half_sides, new_centres + half_sides), dim=-1)


def nonempty(boxes: Tensor, min_size: float = 0.0) -> Tensor:
    """Mask [n] of boxes whose width and height are positive and at least `min_size`."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return ((sides > 0) & (sides >= min_size)).all(dim=1)


def check_boxes(boxes: Tensor, what: str) -> None:
    """Raise ValueError, naming `what` and a bad box, unless boxes [n, 4] are finite with x2 > x1 and y2 > y1."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{what}: boxes have shape {tuple(boxes.shape)}; give [n, 4] in xyxy pixels")
    good = torch.isfinite(boxes).all(dim=1) & nonempty(boxes)
    if not bool(good.all()):
        bad = boxes[~good]
        raise ValueError(
            f"{what}: {len(bad)} of {len(boxes)} boxes are not finite with x2 > x1 and y2 > y1, "
            f"first is {bad[0].tolist()}; boxes are xyxy in pixels"
        )


def _centres_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides
