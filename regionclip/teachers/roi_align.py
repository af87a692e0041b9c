"""RoIAlign (aligned, adaptive sampling) that is fast on a CPU: each bin one weighted sum of map positions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align


def align(feature_map: Tensor, boxes: Tensor, size: int, scale: float) -> Tensor:
    """Map [B, C, h, w] and indexed boxes [R, 5] in pixels -> [R, C, size, size], in the map's type.

    scale: map positions a pixel. Bins average ceil(bin side)^2 bilinear samples; samples more than one position
    outside the map count as zero, as in `torchvision.ops.roi_align(aligned=True, sampling_ratio=-1)`.
    """
    precise = torch.promote_types(feature_map.dtype, torch.float32)
    if feature_map.device.type == "cpu":
        return _gathered(feature_map.to(precise), boxes, size, scale).to(feature_map.dtype)
    pooled: Tensor = roi_align(
        feature_map.to(precise), boxes.to(precise), size, spatial_scale=scale, sampling_ratio=-1, aligned=True
    )
    return pooled.to(feature_map.dtype)


def _gathered(feature_map: Tensor, boxes: Tensor, size: int, scale: float) -> Tensor:
    _, channels, height, width = feature_map.shape
    if not len(boxes):
        return feature_map.new_empty(0, channels, size, size)
    positions = feature_map.permute(0, 2, 3, 1).reshape(-1, channels)  # [B*h*w, C]
    sides = boxes[:, 1:].double() * scale - 0.5
    rows, row_weights = _bins(sides[:, 1], sides[:, 3], size, height)
    columns, column_weights = _bins(sides[:, 0], sides[:, 2], size, width)
    rows = rows + (boxes[:, 0].long() * height)[:, None, None]
    index = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]  # [R, size, size, rows, columns]
    weights = (row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]).to(feature_map.dtype)
    index, weights = (each.flatten(0, 2).flatten(1) for each in (index, weights))  # [R*size*size, positions of a bin]
    counts = weights != 0
    pooled = functional.embedding_bag(
        index[counts].int(),
        positions,
        functional.pad(counts.sum(1).cumsum(0), (1, 0)).int(),
        mode="sum",
        per_sample_weights=weights[counts],
        include_last_offset=True,
    )
    return pooled.view(len(boxes), size, size, channels).permute(0, 3, 1, 2)


def _bins(low: Tensor, high: Tensor, size: int, length: int) -> tuple[Tensor, Tensor]:
    """Along one axis of `length` map positions: the positions each bin reads and their weights, both [R, size, n]."""
    side = ((high - low) / size)[:, None, None]
    number = side.ceil().clamp(min=0)  # samples of a bin
    sample = torch.arange(max(int(number.max()), 1), device=low.device)
    divisor = number.clamp(min=1)
    place = low[:, None, None] + side * (torch.arange(size, device=low.device)[:, None] + (sample + 0.5) / divisor)
    counts = (sample < number) & (place >= -1) & (place <= length)  # [R, size, samples]
    place = place.clamp(0, length - 1)
    before = place.floor().long()
    upper = (place - before) * counts / divisor
    lower = counts / divisor - upper
    start = torch.where(counts, before, length - 1).amin(dim=2, keepdim=True)
    offset = torch.where(counts, before - start, 0)
    weights = place.new_zeros(*start.shape[:2], int(offset.max()) + 2)
    weights.scatter_add_(2, offset, lower).scatter_add_(2, offset + 1, upper)
    reach = start + torch.arange(weights.shape[2], device=low.device)
    return reach.clamp(max=length - 1), weights
