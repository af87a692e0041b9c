"""Overlaps of the boxes of one image, as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def overlaps(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """IoU [n, m] of boxes [n, 4] with others [m, 4], xyxy; 0 where both are empty. As `boxes.box_iou`, but faster."""
    first, second = boxes.astype(np.float64).T[:, :, None], others.astype(np.float64).T  # [4, n, 1], [4, m]
    common = _side(first, second, 0) * _side(first, second, 1)
    union = _area(first) + _area(second) - common
    shares: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def _side(first: NDArray[np.float64], second: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    side: NDArray[np.float64] = np.minimum(first[axis + 2], second[axis + 2])
    side -= np.maximum(first[axis], second[axis])
    return side.clip(min=0.0, out=side)


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    area: NDArray[np.float64] = np.maximum(boxes[2] - boxes[0], 0.0) * np.maximum(boxes[3] - boxes[1], 0.0)
    return area
