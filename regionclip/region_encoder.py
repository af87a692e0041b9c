"""Features of image regions from a CLIP ResNet: one pass over the image, the last stage once a region."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_align

_STEM = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
_STAGES = (_STEM, ("layer1",), ("layer2",), ("layer3",), ("layer4",))


class RegionEncoder(nn.Module):
    """The image tower of CLIP as an encoder of boxes; student, teacher and detector are this one function.

    BatchNorm works with its stored statistics in train mode too. The positional embedding is never interpolated:
    `roi_size` is such that the last stage gives the native grid of the attention pool.
    """

    stride = 16

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        if not isinstance(visual, ModifiedResNet):
            raise ValueError(
                f"a region encoder needs CLIP's ModifiedResNet, got {_tower(visual)}; choose an RN model such as "
                "RN50-quickgelu for pretrain, transfer and evaluate (embed_concepts and encode_regions take any model)"
            )
        self.visual: Any = visual
        self.width: int = visual.attnpool.c_proj.out_features
        self.roi_size: int = 2 * math.isqrt(visual.attnpool.positional_embedding.shape[0] - 1)
        self.train(self.training)

    def train(self, mode: bool = True) -> RegionEncoder:
        """Set train mode, except on BatchNorm, which stays in eval mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def feature_map(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] -> map [B, C, ~H/16, ~W/16] of the third stage (each halving floors)."""
        height, width = images.shape[-2:]
        if min(height, width) < self.stride:
            raise ValueError(f"images of {width} x {height} pixels have no feature map; each side needs {self.stride}")
        visual = self.visual
        features: Tensor = visual.layer3(visual.layer2(visual.layer1(visual.stem(images))))
        return features

    def roi_features(self, feature_map: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """The last stage on each box: [B, C, h, w] and B tensors [n_i, 4] -> [R, C5, g, g], R = all boxes in order.

        Boxes are xyxy pixels of the images given to `feature_map`; they may reach outside.
        """
        if len(boxes) != len(feature_map):
            raise ValueError(f"{len(boxes)} lists of boxes for {len(feature_map)} images; give one a image")
        precise = torch.promote_types(feature_map.dtype, torch.float32)
        pooled = roi_align(
            feature_map.to(precise),
            [each.to(feature_map.device, precise) for each in boxes],
            output_size=self.roi_size,
            spatial_scale=1 / self.stride,
            sampling_ratio=-1,
            aligned=True,
        )
        features: Tensor = self.visual.layer4(pooled.to(feature_map.dtype))
        return features

    def pool(self, roi_features: Tensor) -> Tensor:
        """CLIP's attention pool: [R, C5, g, g] -> raw features [R, D].

        Its only query is the mean token, so the key projection is folded into the query and the value projection
        is applied after the weighting: the same result without projecting each token.
        """
        pool = self.visual.attnpool
        tokens = roi_features.flatten(2).transpose(1, 2)  # [R, g*g, C5]
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        tokens = tokens + pool.positional_embedding.to(tokens.dtype)  # [R, T, C5]
        heads = (pool.num_heads, tokens.shape[-1] // pool.num_heads)
        query = pool.q_proj(tokens[:, 0]).unflatten(-1, heads) / math.sqrt(heads[1])  # [R, heads, d]
        folded = torch.einsum("rhd,hdc->rhc", query, pool.k_proj.weight.unflatten(0, heads))
        key_bias = (query * pool.k_proj.bias.unflatten(0, heads)).sum(dim=-1, keepdim=True)  # [R, heads, 1]
        weights = (torch.einsum("rhc,rtc->rht", folded, tokens) + key_bias).softmax(dim=-1)
        weighted = torch.einsum("rht,rtc->rhc", weights, tokens)
        values = torch.einsum("rhc,hdc->rhd", weighted, pool.v_proj.weight.unflatten(0, heads))
        features: Tensor = pool.c_proj(values.flatten(1) + pool.v_proj.bias)
        return features

    def forward(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Raw features [R, D] of the boxes (B tensors [n_i, 4] xyxy pixels) of normalised images [B, 3, H, W]."""
        return self.pool(self.roi_features(self.feature_map(images), boxes))

    def region_features(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """As `forward`, L2-normalised."""
        return functional.normalize(self(images, boxes), dim=-1)


def freeze(encoder: RegionEncoder, until: int = 2) -> None:
    """Stop the gradient of all BatchNorm and of the first `until` of: stem, layer1, layer2, layer3, layer4."""
    if not 0 <= until <= len(_STAGES):
        raise ValueError(f"freeze until {until} is out of range; give 0 (BatchNorm alone) to {len(_STAGES)}")
    for name in (name for stage in _STAGES[:until] for name in stage):
        getattr(encoder.visual, name).requires_grad_(False)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)


def whole_image_boxes(sizes: Sequence[tuple[int, int]], device: torch.device | str | None = None) -> list[Tensor]:
    """One box [1, 4] covering each (height, width); give the padded batch size for the method's image features."""
    return [torch.tensor([[0.0, 0.0, width, height]], device=device) for height, width in sizes]


def _tower(visual: nn.Module) -> str:
    trunk = getattr(visual, "trunk", None)
    return type(visual).__name__ + ("" if trunk is None else f" ({type(trunk).__name__})")
