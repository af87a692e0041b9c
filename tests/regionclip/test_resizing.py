"""Sizes, resizing, tensors and padding of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regionclip.images import (
    CLIP_MEAN,
    CLIP_STD,
    ResizeConfig,
    image_tensor,
    normalize,
    pad_batch,
    resize,
    resized_size,
)

SIDES = st.integers(1, 4000)


def noise(height: int = 24, width: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("rule", "size", "expected"),
    [
        ("detection", (1920, 1080), (1333, 750)),
        ("detection", (640, 480), (1067, 800)),
        ("pretraining", (1920, 1080), (1333, 749)),
        ("pretraining", (640, 480), (1066, 800)),
        ("pretraining", (800, 3000), (800, 3000)),
        ("detection", (800, 3000), (355, 1333)),
    ],
)
def test_sizes_of_the_two_rules(rule: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size, ResizeConfig(rule)) == expected  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(width=SIDES, height=SIDES, rule=st.sampled_from(["detection", "pretraining"]))
def test_resizing_commutes_with_a_quarter_turn_and_keeps_the_limits(width: int, height: int, rule: str) -> None:
    config = ResizeConfig(rule)  # type: ignore[arg-type]
    new_width, new_height = resized_size(width, height, config)
    assert resized_size(height, width, config) == (new_height, new_width)
    if rule == "detection" or min(width, height) != config.short_side:
        assert 1 <= min(new_width, new_height) <= config.short_side
        assert max(new_width, new_height) <= config.max_side
    scale = max(new_width, new_height) / max(width, height)
    assert abs(min(new_width, new_height) - scale * min(width, height)) <= max(2, 2 * scale)


def test_resize_gives_the_announced_size_and_leaves_a_fitting_image_alone() -> None:
    config = ResizeConfig(short_side=48, max_side=60)
    image = noise(24, 32)
    assert resize(image, config).size == resized_size(32, 24, config) == (60, 45)
    fitting = noise(48, 50)
    assert resize(fitting, config) is fitting


def test_the_rules_differ_in_their_filter() -> None:
    image = noise(20, 20)
    bilinear, bicubic = (resize(image, ResizeConfig(rule, 40, 40)) for rule in ("detection", "pretraining"))
    assert np.array_equal(np.asarray(bilinear), np.asarray(image.resize((40, 40), Image.Resampling.BILINEAR)))
    assert np.array_equal(np.asarray(bicubic), np.asarray(image.resize((40, 40), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("sides", [(0, 10), (20, 10)])
def test_impossible_sides_are_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must satisfy 0 < short_side <= max_side"):
        ResizeConfig(short_side=sides[0], max_side=sides[1])


def test_image_tensor_is_channels_first_in_the_unit_range() -> None:
    image = Image.new("RGB", (3, 2), (0, 51, 255))
    tensor = image_tensor(image)
    assert tensor.shape == (3, 2, 3)
    assert tensor.dtype == torch.float32
    torch.testing.assert_close(tensor[:, 1, 2], torch.tensor([0.0, 0.2, 1.0]))


def test_normalize_is_per_channel_for_one_image_and_for_a_batch() -> None:
    image = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    normalized = normalize(image)
    for channel in range(3):
        torch.testing.assert_close(normalized[channel], (image[channel] - CLIP_MEAN[channel]) / CLIP_STD[channel])
    torch.testing.assert_close(normalize(image[None])[0], normalized)


def test_padding_adds_zeros_at_the_right_and_bottom_only() -> None:
    images = [torch.full((3, 2, 5), 1.0), torch.full((3, 4, 3), 2.0)]
    batch = pad_batch(images)
    assert batch.shape == (2, 3, 4, 5)
    assert torch.equal(batch[0, :, :2], images[0])
    assert torch.equal(batch[1, :, :, :3], images[1])
    assert batch.sum() == images[0].sum() + images[1].sum()
    with pytest.raises(ValueError, match="at least one image"):
        pad_batch([])
