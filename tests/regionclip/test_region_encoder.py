from __future__ import annotations

import copy
import math

import open_clip
import pytest
import torch
from open_clip import CLIP
from torch import Tensor, nn

from regionclip.region_encoder import RegionEncoder, freeze, whole_image_boxes


@pytest.fixture
def encoder(tiny_clip: CLIP) -> RegionEncoder:
    return RegionEncoder(copy.deepcopy(tiny_clip.visual))


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def roi_align_oracle(feature_map: Tensor, box: list[float], size: int, scale: float) -> Tensor:
    """RoIAlign of one box on [C, H, W] with adaptive sampling, one sample at a time."""
    x1, y1, x2, y2 = (side * scale - 0.5 for side in box)
    bin_width, bin_height = (x2 - x1) / size, (y2 - y1) / size
    columns, rows = math.ceil(bin_width), math.ceil(bin_height)
    pooled = torch.zeros(len(feature_map), size, size, dtype=feature_map.dtype)
    for row in range(size):
        for column in range(size):
            for i in range(rows):
                for j in range(columns):
                    y = y1 + bin_height * (row + (i + 0.5) / rows)
                    x = x1 + bin_width * (column + (j + 0.5) / columns)
                    pooled[:, row, column] += bilinear_oracle(feature_map, y, x) / max(rows * columns, 1)
    return pooled


def bilinear_oracle(feature_map: Tensor, y: float, x: float) -> Tensor:
    channels, height, width = feature_map.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(channels, dtype=feature_map.dtype)
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = feature_map[:, top, left] * (1 - across) + feature_map[:, top, right] * across
    lower = feature_map[:, bottom, left] * (1 - across) + feature_map[:, bottom, right] * across
    return upper * (1 - down) + lower * down


def attention_pool_oracle(pool: nn.Module, features: Tensor) -> Tensor:
    """CLIP's attention pool on one [C, g, g], every token projected, head by head and token by token."""
    tokens = [features.mean(dim=(1, 2)), *features.flatten(1).T]
    tokens = [token + position for token, position in zip(tokens, pool.positional_embedding, strict=True)]
    query = pool.q_proj(tokens[0])
    keys, values = [pool.k_proj(token) for token in tokens], [pool.v_proj(token) for token in tokens]
    width = len(query) // pool.num_heads
    attended = []
    for head in range(pool.num_heads):
        part = slice(head * width, (head + 1) * width)
        scores = [float(query[part] @ key[part]) / math.sqrt(width) for key in keys]
        total = sum(math.exp(score) for score in scores)
        attended.append(sum(math.exp(score) / total * value[part] for score, value in zip(scores, values, strict=True)))
    return pool.c_proj(torch.cat(attended))


@pytest.mark.parametrize(
    "box",
    [
        [0.0, 0.0, 160.0, 96.0],
        [3.3, 7.9, 41.2, 30.1],
        [10.0, 10.0, 10.5, 11.0],
        [-30.0, -20.0, 40.0, 50.0],
        [100.0, 60.0, 300.0, 200.0],
        [0.0, 40.0, 160.0, 42.0],
    ],
)
@torch.no_grad()
def test_roi_features_are_roi_align_and_the_last_stage(encoder: RegionEncoder, box: list[float]) -> None:
    encoder.double()
    feature_map = images(1, 128, 6, 10).double()
    pooled = roi_align_oracle(feature_map[0], box, encoder.roi_size, 1 / 16)
    roi = encoder.roi_features(feature_map, [torch.tensor([box], dtype=torch.float64)])
    torch.testing.assert_close(roi, encoder.visual.layer4(pooled[None]))


@torch.no_grad()
def test_pool_equals_attention_over_all_projected_tokens(encoder: RegionEncoder) -> None:
    encoder.double()
    for bias in (encoder.visual.attnpool.k_proj.bias, encoder.visual.attnpool.v_proj.bias):
        bias.normal_(generator=torch.Generator().manual_seed(2))
    roi = 3 * images(3, 256, 2, 2).double()
    expected = torch.stack([attention_pool_oracle(encoder.visual.attnpool, each) for each in roi])
    torch.testing.assert_close(encoder.pool(roi), expected)


@torch.no_grad()
def test_the_whole_image_at_native_size_is_clips_image_feature(tiny_clip: CLIP, encoder: RegionEncoder) -> None:
    batch = images(2, 3, 64, 64)
    features = encoder(batch, whole_image_boxes([(64, 64)] * 2))
    torch.testing.assert_close(features, tiny_clip.encode_image(batch), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_regions_of_several_images_are_those_of_each_alone_in_order(encoder: RegionEncoder) -> None:
    batch = images(3, 3, 64, 96)
    boxes = [torch.tensor([[0.0, 0, 30, 30], [5, 5, 90, 60]]), torch.empty(0, 4), torch.tensor([[8.0, 8, 64, 64]])]
    together = encoder(batch, boxes)
    alone = torch.cat([encoder(batch[index : index + 1], [boxes[index]]) for index in range(3)])
    assert together.shape == (3, encoder.width)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_region_features_have_length_one_even_outside_of_the_image(encoder: RegionEncoder) -> None:
    boxes = torch.tensor([[0.0, 0, 16, 16], [500, 500, 600, 600], [3, 3, 3.01, 3.01], [-9, -9, 99, 99]])
    features = encoder.region_features(images(1, 3, 16, 16), [boxes])
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(4))
    torch.testing.assert_close(features, nn.functional.normalize(encoder(images(1, 3, 16, 16), [boxes]), dim=-1))


def test_no_boxes_give_no_features_and_a_gradient_of_zero(encoder: RegionEncoder) -> None:
    features = encoder(images(2, 3, 32, 32), [torch.empty(0, 4)] * 2)
    assert features.shape == (0, encoder.width)
    features.sum().backward()
    assert all(not weight.grad.any() for weight in encoder.parameters() if weight.grad is not None)


def test_map_size_floors_at_each_halving(encoder: RegionEncoder) -> None:
    assert encoder.feature_map(images(1, 3, 64, 110)).shape[-2:] == (4, 6)
    assert encoder.feature_map(images(1, 3, 64, 111)).shape[-2:] == (4, 7)


def test_too_small_an_image_and_mismatched_boxes_are_refused(encoder: RegionEncoder) -> None:
    with pytest.raises(ValueError, match="images of 40 x 15 pixels have no feature map; each side needs 16"):
        encoder.feature_map(images(1, 3, 15, 40))
    with pytest.raises(ValueError, match="1 lists of boxes for 2 images"):
        encoder(images(2, 3, 32, 32), [torch.empty(0, 4)])


def test_a_vision_transformer_is_refused_by_name() -> None:
    vit = open_clip.model._build_vision_tower(
        8, {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 64}
    )
    with pytest.raises(ValueError, match=r"ModifiedResNet, got VisionTransformer; .*RN50-quickgelu"):
        RegionEncoder(vit)


def test_batch_norm_keeps_its_statistics_when_a_parent_trains(encoder: RegionEncoder) -> None:
    parent = nn.Sequential(encoder)
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    evaluated = encoder.feature_map(images(2, 3, 32, 32))
    parent.train()
    torch.testing.assert_close(encoder.feature_map(images(2, 3, 32, 32)), evaluated, rtol=0, atol=0)
    assert encoder.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())


def test_freezing_leaves_the_later_convolutions_and_the_pool(encoder: RegionEncoder) -> None:
    freeze(encoder)
    trained = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    stages = {name.removeprefix("visual.").split(".")[0] for name in trained}
    assert stages == {"layer2", "layer3", "layer4", "attnpool"}
    assert not any(".bn" in name or "downsample.1" in name for name in trained)
    freeze(encoder, until=5)
    assert all("attnpool" in name for name, weight in encoder.named_parameters() if weight.requires_grad)
    with pytest.raises(ValueError, match="freeze until 6 is out of range"):
        freeze(encoder, until=6)


def test_a_training_step_gives_every_trained_weight_a_gradient(encoder: RegionEncoder) -> None:
    freeze(encoder)
    encoder.train()
    encoder(images(1, 3, 64, 64), whole_image_boxes([(64, 64)])).square().sum().backward()
    for name, weight in encoder.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, name


def test_whole_image_boxes_cover_height_and_width() -> None:
    assert [box.tolist() for box in whole_image_boxes([(2, 3), (5, 7)])] == [[[0, 0, 3, 2]], [[0, 0, 7, 5]]]


@torch.no_grad()
def test_half_precision_maps_pool_boxes_in_single_precision(encoder: RegionEncoder) -> None:
    feature_map = images(1, 128, 60, 60).bfloat16()
    boxes = torch.tensor([[902.0, 902.0, 918.0, 913.0]])
    exact = encoder.roi_features(feature_map.float(), [boxes])
    half = encoder.bfloat16().roi_features(feature_map, [boxes])
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).norm() < 0.02 * exact.norm()
