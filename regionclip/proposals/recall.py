"""How many true objects proposals cover, by the matching of COCO's evaluation without categories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from regionclip.boxes import box_area, box_iou
from regionclip.proposals.proposer import Proposals

SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Areas of true boxes, least and greatest in square pixels, both included, as in COCO's evaluation."""


NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class RecallRow:
    """Recall at one IoU and size: `recalls[i]` in 0..1 with the best `limits[i]` boxes of each image.

    None where there is no object of the size.
    """

    iou: float
    size: str
    num_objects: int
    limits: tuple[int, ...]
    recalls: tuple[float, ...] | None


def recall(
    images: Iterable[tuple[Proposals, Tensor]],
    ious: Sequence[float] = (0.5, 0.75),
    limits: Sequence[int] = (10, 100, 300, 1000),
) -> list[RecallRow]:
    """Recall over images, each as its proposals and the boxes [g, 4] of its objects, crowds left out.

    The best proposal takes the unclaimed object of its size that it overlaps most, by at least the IoU; then the
    next does. Sizes are by the area of the true box.
    """
    ranks: dict[tuple[float, str], list[NDArray[np.int64]]] = {(iou, size): [] for iou in ious for size in SIZES}
    for proposals, truth in images:
        overlaps = box_iou(proposals.best_first(max(limits)).boxes.double(), truth.double()).numpy()
        areas = box_area(truth.double()).numpy()
        for size, (least, greatest) in SIZES.items():
            of_size = overlaps[:, (areas >= least) & (areas <= greatest)]
            for iou in ious:
                ranks[iou, size].append(claim_ranks(of_size, iou))
    return [_row(iou, size, np.concatenate([np.empty(0, np.int64), *ranks[iou, size]]), limits) for iou, size in ranks]


def claim_ranks(overlaps: NDArray[np.float64], iou: float) -> NDArray[np.int64]:
    """For IoUs [n, g] of proposals, best first, with objects: the rank from 0 of each object's proposal, or NEVER."""
    ranks = np.full(overlaps.shape[1], NEVER)
    enough = np.where(overlaps >= iou, overlaps, 0.0)
    for rank in np.flatnonzero(enough.any(axis=1)).tolist():
        claimable = np.where(ranks == NEVER, enough[rank], 0.0)
        best = len(claimable) - 1 - int(claimable[::-1].argmax())  # of equals COCO takes the last
        if claimable[best] > 0:
            ranks[best] = rank
    return ranks


def _row(iou: float, size: str, ranks: NDArray[np.int64], limits: Sequence[int]) -> RecallRow:
    found = tuple(float((ranks < limit).mean()) for limit in limits) if len(ranks) else None
    return RecallRow(iou, size, len(ranks), tuple(limits), found)
