"""Boxes that need neither a network nor the image: sliding windows and random ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from regionclip.loading import ImageRecord
from regionclip.proposals.proposer import UNSCORED, Images, Proposals, Reject

RANDOM_GRID = 8
"""Pixels between the corners that `random_boxes` draws."""


class GridProposer:
    """The windows of `grid_boxes`, the same in all images of one size; sizes in pixels of the original image."""

    reads_pixels = False

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = tuple(sizes)

    def propose(self, images: Images, reject: Reject) -> list[Proposals]:
        """See `Proposer.propose`."""
        return [grid_boxes(record.height, record.width, self._sizes) for record in images.records]


class RandomProposer:
    """The boxes of `random_boxes`, `count` an image, drawn from `seed` and the image's id."""

    reads_pixels = False

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed

    def propose(self, images: Images, reject: Reject) -> list[Proposals]:
        """See `Proposer.propose`; an image with a side below `RANDOM_GRID` pixels gets none and goes to `reject`."""
        return [self._of(record, reject) for record in images.records]

    def _of(self, record: ImageRecord, reject: Reject) -> Proposals:
        if min(record.height, record.width) < RANDOM_GRID:
            reject(record.file_name, f"{record.width} x {record.height} pixels have no {RANDOM_GRID}-pixel grid")
            return Proposals(torch.empty(0, 4), torch.empty(0))
        seed = np.random.SeedSequence((self._seed, record.image_id)).generate_state(1)
        return random_boxes(record.height, record.width, self._count, int(seed[0]))


def random_boxes(height: int, width: int, count: int, seed: int) -> Proposals:
    """Unscored boxes with corners drawn from the 8-pixel grid of an image; the same for the same arguments."""
    generator = torch.Generator().manual_seed(seed)
    horizontal, vertical = (_random_intervals(side, count, generator) for side in (width, height))
    boxes = torch.stack((horizontal, vertical), dim=-1).flatten(1)
    return Proposals(boxes, torch.full((count,), UNSCORED))


def _random_intervals(side: int, count: int, generator: torch.Generator) -> Tensor:
    steps = side // RANDOM_GRID
    if steps < 1:
        raise ValueError(f"an image side of {side} pixels has no {RANDOM_GRID}-pixel grid; give larger images")
    first = torch.randint(steps + 1, (count,), generator=generator)
    second = torch.randint(steps, (count,), generator=generator)
    second = second + (second >= first)
    return RANDOM_GRID * torch.stack((first, second), dim=1).sort(dim=1).values.float()


def grid_boxes(
    height: int,
    width: int,
    sizes: Sequence[int] = (24, 40, 64),
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    overlap: float = 0.5,
) -> Proposals:
    """Unscored sliding windows over an image: each size (root of the area) in each ratio (height / width).

    Neighbours share at least `overlap` of their side; a window larger than the image is cut to it.
    """
    windows = []
    for size in sizes:
        for ratio in aspect_ratios:
            rows = _windows(height, size * ratio**0.5, overlap)
            columns = _windows(width, size / ratio**0.5, overlap)
            grid = torch.cat((columns.repeat(len(rows), 1), rows.repeat_interleave(len(columns), dim=0)), dim=1)
            windows.append(grid[:, [0, 2, 1, 3]])
    boxes = torch.cat(windows)
    return Proposals(boxes, torch.full((len(boxes),), UNSCORED))


def num_grid_boxes(
    height: int,
    width: int,
    sizes: Sequence[int] = (24, 40, 64),
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    overlap: float = 0.5,
) -> int:
    """How many boxes `grid_boxes` gives."""
    return sum(
        _num_windows(height, size * ratio**0.5, overlap) * _num_windows(width, size / ratio**0.5, overlap)
        for size in sizes
        for ratio in aspect_ratios
    )


def _num_windows(side: int, length: float, overlap: float) -> int:
    length = min(length, float(side))
    return 1 + math.ceil((side - length) / (length * (1 - overlap)))


def _windows(side: int, length: float, overlap: float) -> Tensor:
    count, length = _num_windows(side, length, overlap), min(length, float(side))
    starts = torch.linspace(0.0, side - length, count)
    return torch.stack((starts, starts + length), dim=1)
