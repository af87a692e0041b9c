"""What a teacher is, and the choices that change its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from regionclip.known_clips import Channels

_CHOICES = {
    "mode": ("auto", "dense", "crop"),
    "pooling": ("head", "mean_pool"),
    "precision": ("fp32", "bf16", "fp16"),
}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TeacherConfig:
    """How an image tower gives features of regions.

    mode: 'dense' pools regions from one map an image, 'crop' sends each box through the whole tower, 'auto' is
    'dense' where the tower has a map (CLIP's ResNet, open_clip's ViT, ConvNeXt), else 'crop'.
    pooling: the tower's own 'head', or 'mean_pool': the mean of the pooled map, then the tower's norm and projection.
    precision: of weights and activations; RoIAlign and the final normalisation stay in fp32.
    fused: of CLIP's ResNet, BatchNorm inside the convolutions, the last stage's first 1x1 convolution on the map
    where regions are many, and on a CPU RoIAlign as a weighted gather and wide 3x3 convolutions by Winograd's
    transform (fp32): the same function to 1e-5.
    compile: torch.compile, for a GPU (on a CPU it needs a C++ compiler and gains nothing over `fused`); each worker
    compiles at its start and again for new image sizes, up to a minute each.
    mean, std: by channel, of the pixels in [0, 1] that the weights were trained on; None takes what is known of them.

    Each of `precision`, `channels_last`, `fused` and `compile` can change the last bits, and so changes the key of
    what is made with it; the defaults are the arithmetic of `RegionEncoder`, bit for bit.
    """

    mode: Literal["auto", "dense", "crop"] = "auto"
    pooling: Literal["head", "mean_pool"] = "head"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    fused: bool = False
    compile: bool = False
    mean: Channels | None = None
    std: Channels | None = None

    def __post_init__(self) -> None:
        for field, choices in _CHOICES.items():
            if getattr(self, field) not in choices:
                raise ValueError(f"{field} '{getattr(self, field)}' is unknown; choose one of {', '.join(choices)}")
        if self.mode == "crop" and self.pooling == "mean_pool":
            raise ValueError("pooling 'mean_pool' needs a map, which mode 'crop' has not; choose pooling 'head'")

    @property
    def dtype(self) -> torch.dtype:
        """The torch type of `precision`."""
        return _DTYPES[self.precision]


class Teacher(Protocol):
    """Gives features of regions; `width` is D, `least_side` the least side in pixels of an image that it takes."""

    width: int
    least_side: int

    def region_features(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """float32 [R, D], L2-normalised, R = all boxes in order, of normalised images [B, 3, H, W].

        boxes: B tensors [n_i, 4], xyxy pixels of these images; they may reach outside. No gradient is kept.
        """
        ...


def indexed_boxes(images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """Boxes of all images as [R, 5] on the images' device: the position of its image, then xyxy."""
    if len(boxes) != len(images):
        raise ValueError(f"{len(boxes)} lists of boxes for {len(images)} images; give one a image")
    rows = [
        torch.cat([each.new_full((len(each), 1), position), each], dim=1)
        for position, each in enumerate(each.to(images.device, torch.float32) for each in boxes)
    ]
    return torch.cat(rows)
