"""CLIP's ResNet as a teacher: RoIAlign on the third stage, last stage and attention pool once a region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from regionclip.precision import full_precision
from regionclip.region_encoder import RegionEncoder
from regionclip.teachers.roi_align import align
from regionclip.teachers.teacher import TeacherConfig, indexed_boxes

_REGIONS_AT_ONCE = {"cpu": 64, "cuda": 1024}


class ResNetTeacher:
    """The arithmetic of `RegionEncoder`, in the precision of the config."""

    def __init__(self, visual: Any, config: TeacherConfig) -> None:
        encoder = RegionEncoder(visual).eval()
        self.width, self.least_side = encoder.width, encoder.stride
        self._dtype, self._pool, self._roi_features = config.dtype, encoder.pool, encoder.roi_features
        self._feature_map = encoder.feature_map
        if config.compile:
            visual.layer4 = torch.compile(visual.layer4)
            self._feature_map = torch.compile(self._feature_map)

    @full_precision()
    @torch.inference_mode()
    def region_features(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """See `Teacher`."""
        roi = self._roi_features(self._feature_map(images.to(self._dtype)), boxes)
        return functional.normalize(self._pool(roi).float(), dim=-1)


class FusedResNetTeacher:
    """As `ResNetTeacher` up to rounding, for speed: see `TeacherConfig.fused`; its tower has folded BatchNorm.

    The first 1x1 convolution of the last stage commutes with RoIAlign (both are linear; its bias is added after), so
    where the regions' bins outnumber the positions of the maps it runs on the maps.
    """

    def __init__(self, visual: Any, config: TeacherConfig) -> None:
        encoder = RegionEncoder(visual).eval()
        self.width, self.least_side = encoder.width, encoder.stride
        self._size, self._scale = encoder.roi_size, 1 / encoder.stride
        self._dtype, self._blocks = config.dtype, visual.layer4
        self.pool, self.feature_map, self.last_stage = encoder.pool, encoder.feature_map, _last
        if config.compile:
            self.feature_map, self.last_stage = torch.compile(self.feature_map), torch.compile(self.last_stage)

    @full_precision()
    @torch.inference_mode()
    def region_features(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """See `Teacher`."""
        indexed = indexed_boxes(images, boxes)
        if not len(indexed):
            return images.new_empty(0, self.width)
        feature_map = self.feature_map(images.to(self._dtype))
        narrow = self._first(feature_map) if len(indexed) * self._size**2 > feature_map[:, 0].numel() else None
        raw = []
        for some in torch.split(indexed, _REGIONS_AT_ONCE[images.device.type]):
            wide = align(feature_map, some, self._size, self._scale)  # [r, C, g, g]
            inner = self._first(wide) if narrow is None else align(narrow, some, self._size, self._scale)
            raw.append(self.pool(self.last_stage(self._blocks, wide, inner)).float())
        return functional.normalize(torch.cat(raw), dim=-1)

    def _first(self, features: Tensor) -> Tensor:
        return functional.conv2d(features, self._blocks[0].conv1.weight)


def _last(blocks: Any, wide: Tensor, inner: Tensor) -> Tensor:
    """The last stage on RoIAligned maps, of which `inner` is its first convolution without the bias."""
    first = blocks[0]
    inner = functional.relu(inner + first.conv1.bias[:, None, None])
    inner = first.conv3(first.avgpool(functional.relu(first.conv2(inner))))
    features: Tensor = functional.relu(inner + first.downsample(wide))
    for block in blocks[1:]:
        features = block(features)
    return features


def fold_batchnorm(visual: nn.Module) -> None:
    """Put each BatchNorm of CLIP's ResNet, with its stored statistics, into the convolution before it, in place."""
    for module in list(visual.modules()):
        for number in (1, 2, 3):
            if hasattr(module, f"bn{number}"):
                _fold(module, f"conv{number}", f"bn{number}")
        if getattr(module, "downsample", None) is not None:
            _fold(module.downsample, "0", "1")


def _fold(module: Any, convolution: str, norm: str) -> None:
    layer, affine = getattr(module, convolution), getattr(module, norm)
    dtype = layer.weight.dtype
    setattr(module, convolution, fuse_conv_bn_eval(layer.double(), affine.double()).to(dtype))
    setattr(module, norm, nn.Identity())
