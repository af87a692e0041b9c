"""ViT and ConvNeXt as teachers by their map: one pass an image, RoIAlign, the tower's end once a region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn
from torch.nn import functional

from regionclip.precision import full_precision
from regionclip.teachers.roi_align import align
from regionclip.teachers.teacher import TeacherConfig, indexed_boxes

_REGIONS_AT_ONCE = {"cpu": 64, "cuda": 1024}


class MapTower(Protocol):
    """A tower in two halves. stride: pixels a map position. grid: side of the map at the tower's own image size."""

    stride: int
    grid: int

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] -> map [B, C, h, w] and other tokens of each image [B, n, C]."""
        ...

    def head(self, regions: Tensor, tokens: Tensor) -> Tensor:
        """RoIAligned maps [R, C, grid, grid] and the tokens of their images [R, n, C] -> [R, D]."""
        ...

    def mean_head(self, mean: Tensor) -> Tensor:
        """Means of RoIAligned maps [R, C] through norm and projection -> [R, D]."""
        ...


class DenseTeacher:
    """Regions of several images share a batch; RoIAlign gives each region the tower's own grid."""

    def __init__(self, visual: nn.Module, width: int, config: TeacherConfig) -> None:
        self._tower = map_tower(visual, config.pooling == "mean_pool")
        self._features = torch.compile(self._tower.features) if config.compile else self._tower.features
        self._mean, self._dtype = config.pooling == "mean_pool", config.dtype
        self.width, self.least_side = width, self._tower.stride

    @full_precision()
    @torch.inference_mode()
    def region_features(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """See `Teacher`."""
        tower, height, width = self._tower, *images.shape[-2:]
        if min(height, width) < self.least_side:
            raise ValueError(f"images of {width} x {height} pixels have no map; each side needs {self.least_side}")
        indexed = indexed_boxes(images, boxes)
        feature_map, tokens = self._features(images.to(self._dtype))
        raw = [images.new_empty(0, self.width)]
        for some in torch.split(indexed, _REGIONS_AT_ONCE[images.device.type]):
            if len(some):
                regions = align(feature_map, some, tower.grid, 1 / tower.stride)
                if self._mean:
                    raw.append(tower.mean_head(regions.mean(dim=(2, 3))).float())
                else:
                    raw.append(tower.head(regions, tokens[some[:, 0].long()]).float())
        return functional.normalize(torch.cat(raw), dim=-1)


def has_map(visual: Any) -> bool:
    """Whether the tower is one that `map_tower` knows."""
    return isinstance(visual, VisionTransformer) or isinstance(getattr(visual, "trunk", None), ConvNeXt)


def map_tower(visual: Any, mean_pool: bool) -> MapTower:
    """The two halves of an open_clip ViT or timm ConvNeXt; ValueError for other towers."""
    if isinstance(visual, VisionTransformer):
        if mean_pool and visual.attn_pool is not None:
            raise ValueError("this ViT projects through its attention pool alone; choose pooling 'head'")
        return TransformerTower(visual, mean_pool)
    if has_map(visual):
        return ConvNeXtTower(visual)
    kind = type(getattr(visual, "trunk", visual)).__name__
    raise ValueError(
        f"mode 'dense' needs CLIP's ResNet, open_clip's VisionTransformer or a timm ConvNeXt, got {kind}; "
        "choose mode 'crop', which takes any tower"
    )


class TransformerTower:
    """A ViT; positions are interpolated (bicubic) to the image, pixels beyond the last whole patch left out.

    The head of a tower that gives its class token is its last block run on each region: the image's class token
    attends to the region's tokens. Any other pooling acts on the region's tokens after all blocks.
    """

    def __init__(self, visual: Any, mean_pool: bool) -> None:
        assert visual.transformer.batch_first
        self.stride, self.grid = int(visual.patch_size[0]), int(visual.grid_size[0])
        self._visual = visual
        blocks = list(visual.transformer.resblocks)
        gives_token = visual.attn_pool is None and visual.pool_type == "tok"
        self._last = blocks.pop() if gives_token and not mean_pool else None
        self._blocks = blocks

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `MapTower`; the other token is the class token."""
        visual = self._visual
        patches = visual.conv1(images)  # [B, C, h, w]
        positions = self._positions(patches.shape[-2:])
        tokens = patches.flatten(2).transpose(1, 2) + positions.to(patches.dtype)
        first = (visual.class_embedding + visual.positional_embedding[0]).expand(len(patches), 1, -1)
        tokens = visual.ln_pre(torch.cat([first, tokens], dim=1))
        for block in self._blocks:
            tokens = block(tokens)
        return tokens[:, 1:].transpose(1, 2).reshape(patches.shape), tokens[:, :1]

    def _positions(self, size: torch.Size) -> Tensor:
        grid: Tensor = self._visual.positional_embedding[1:]
        if self._visual.grid_size == tuple(size):
            return grid
        precise = torch.promote_types(grid.dtype, torch.float32)
        square = grid.to(precise).T.reshape(1, -1, *self._visual.grid_size)
        resized = functional.interpolate(square, tuple(size), mode="bicubic", antialias=True, align_corners=False)
        return resized[0].flatten(1).T

    def head(self, regions: Tensor, tokens: Tensor) -> Tensor:
        """See `MapTower`."""
        sequence = torch.cat([tokens, regions.flatten(2).transpose(1, 2)], dim=1)
        if self._last is not None:
            sequence = _class_token(self._last, sequence)
        pooled, _ = self._visual._pool(sequence)
        return self._projected(pooled)

    def mean_head(self, mean: Tensor) -> Tensor:
        """See `MapTower`."""
        return self._projected(self._visual.ln_post(mean))

    def _projected(self, pooled: Tensor) -> Tensor:
        return pooled if self._visual.proj is None else pooled @ self._visual.proj


def _class_token(block: Any, sequence: Tensor) -> Tensor:
    """The block's output for the first token [R, 1, C], without the other tokens' queries where it is CLIP's own."""
    output: Tensor
    if type(block) is ResidualAttentionBlock:
        normed = block.ln_1(sequence)
        token = sequence[:, :1] + block.ls_1(block.attention(normed[:, :1], normed, normed))
        output = token + block.ls_2(block.mlp(block.ln_2(token)))
    else:
        output = block(sequence)
    return output[:, :1]


class ConvNeXtTower:
    """A ConvNeXt of timm: its map is the last stage's, its head timm's norm and pool and open_clip's projection."""

    def __init__(self, visual: Any) -> None:
        self._visual = visual
        self.stride = int(visual.trunk.feature_info[-1]["reduction"])
        self.grid = int(visual.image_size[0]) // self.stride

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `MapTower`; there is no other token."""
        feature_map = self._visual.trunk.forward_features(images)
        return feature_map, feature_map.new_empty(len(images), 0, feature_map.shape[1])

    def head(self, regions: Tensor, tokens: Tensor) -> Tensor:
        """See `MapTower`."""
        features: Tensor = self._visual.head(self._visual.trunk.forward_head(regions))
        return features

    def mean_head(self, mean: Tensor) -> Tensor:
        """See `MapTower`."""
        return self.head(mean[:, :, None, None], mean)
