"""A seeded tiny model of each family of image towers, and slow oracles in fp64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from open_clip import CLIP
from torch import Tensor

from regionclip.clip_models import create_clip

FAMILIES = ("rgc-test-rn", "rgc-test-vit", "rgc-test-custom-text", "rgc-test-coca", "rgc-test-convnext")
NINE = "rgc-test-rn-9x9"  # the attention pool of RN50x4, two blocks in the last stage


@pytest.fixture(scope="session")
def clips(tiny_clip: CLIP, make_clip: Callable[[str], Any]) -> dict[str, Any]:
    """The models of FAMILIES and NINE by name; a teacher copies the tower, so they stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {model: create_clip(model) for model in FAMILIES[1:]}
        for clip in made.values():  # so that no norm, bias or position is an identity
            for name, weight in clip.visual.named_parameters():
                if weight.ndim == 1 or "positional" in name:
                    torch.nn.init.normal_(weight, float("norm" in name and "weight" in name), 0.2)
    return {FAMILIES[0]: tiny_clip, **made, NINE: make_clip(NINE)}


@pytest.fixture(scope="session")
def align_oracle() -> Callable[[Tensor, Tensor, int, float], Tensor]:
    """RoIAlign of one box on one map [C, h, w], sample by sample."""

    def align(feature_map: Tensor, box: Tensor, size: int, scale: float) -> Tensor:
        x1, y1, x2, y2 = (float(side) * scale - 0.5 for side in box)
        width, height = (x2 - x1) / size, (y2 - y1) / size
        columns, rows = max(math.ceil(width), 0), max(math.ceil(height), 0)
        pooled = torch.zeros(len(feature_map), size, size, dtype=feature_map.dtype)
        for row in range(size):
            for column in range(size):
                for i in range(rows):
                    for j in range(columns):
                        y, x = y1 + height * (row + (i + 0.5) / rows), x1 + width * (column + (j + 0.5) / columns)
                        pooled[:, row, column] += _bilinear(feature_map, y, x) / (rows * columns)
        return pooled

    return align


def _bilinear(feature_map: Tensor, y: float, x: float) -> Tensor:
    channels, height, width = feature_map.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(channels, dtype=feature_map.dtype)
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    corners = [(int(y), 1 - (y - int(y))), (min(int(y) + 1, height - 1), y - int(y))]
    sides = [(int(x), 1 - (x - int(x))), (min(int(x) + 1, width - 1), x - int(x))]
    terms = [feature_map[:, row, column] * down * across for row, down in corners for column, across in sides]
    return torch.stack(terms).sum(dim=0)
