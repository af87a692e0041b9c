"""What finds class-agnostic boxes: one interface for every way, and several ways joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torchvision.ops import nms

from regionclip.loading import ImageRecord, LoadedBatch

Reject = Callable[[str, str], None]
"""Told (file name, reason) of what is left out."""

UNSCORED = 0.0
"""The objectness of a box that nobody scored, a logit: as likely an object as not."""


@dataclass(frozen=True)
class Proposals:
    """Class-agnostic boxes [n, 4] of one image, xyxy pixels, and their objectness [n] as raw logits."""

    boxes: Tensor
    objectness: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def best_first(self, limit: int | None = None) -> Proposals:
        """The `limit` best by objectness, or all; boxes of equal objectness keep their order."""
        order = self.objectness.argsort(descending=True, stable=True)[:limit]
        return Proposals(self.boxes[order], self.objectness[order])


@dataclass(frozen=True)
class Images:
    """Images to find boxes in; `batch` holds their pixels, all of one size, for a proposer that reads them."""

    records: Sequence[ImageRecord]
    batch: LoadedBatch | None = None


class Proposer(Protocol):
    """One way to find boxes."""

    @property
    def reads_pixels(self) -> bool:
        """Whether `propose` needs the pixels of the images."""
        ...

    def propose(self, images: Images, reject: Reject) -> list[Proposals]:
        """Proposals of each image, on the CPU, in pixels of the original image, best objectness first.

        Raises ValueError for what no image can be helped with; boxes left out of one image go to `reject`.
        """
        ...


class JoinedProposers:
    """The boxes of several proposers as one.

    logit_offsets: added to the objectness of each proposer, so that logits of different origin compare.
    nms_iou: overlap at which a box gives way to a better one of any proposer; None keeps all.
    top_k: boxes of an image; None keeps all. Of boxes with equal objectness those of the earlier proposer come first.
    """

    def __init__(
        self,
        proposers: Sequence[Proposer],
        logit_offsets: Sequence[float] | None = None,
        nms_iou: float | None = None,
        top_k: int | None = None,
    ) -> None:
        self._proposers = tuple(proposers)
        self._offsets = tuple(logit_offsets or [0.0] * len(proposers))
        self._nms_iou, self._top_k = nms_iou, top_k

    @property
    def reads_pixels(self) -> bool:
        """Whether any of them does."""
        return any(each.reads_pixels for each in self._proposers)

    def propose(self, images: Images, reject: Reject) -> list[Proposals]:
        """See `Proposer.propose`."""
        found = [each.propose(images, reject) for each in self._proposers]
        return [self._join(of_image) for of_image in zip(*found, strict=True)]

    def _join(self, found: Sequence[Proposals]) -> Proposals:
        objectness = [each.objectness + offset for each, offset in zip(found, self._offsets, strict=True)]
        joined = Proposals(torch.cat([each.boxes for each in found]), torch.cat(objectness)).best_first()
        if self._nms_iou is not None:
            keep = nms(joined.boxes, joined.objectness, self._nms_iou)
            joined = Proposals(joined.boxes[keep], joined.objectness[keep])
        return Proposals(joined.boxes[: self._top_k], joined.objectness[: self._top_k])
