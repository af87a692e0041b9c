from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from regionclip.teachers import winograd
from regionclip.teachers.making import make_teacher
from regionclip.teachers.teacher import TeacherConfig
from regionclip.teachers.winograd import WinogradConvolution, use_winograd


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.integers(1, 11), st.integers(1, 11), st.booleans())
@torch.no_grad()
def test_the_transformed_convolution_is_the_convolution(number: int, height: int, width: int, bias: bool) -> None:
    random = torch.Generator().manual_seed(number)
    layer = nn.Conv2d(24, 40, 3, padding=1, bias=bias)
    for weight in layer.parameters():
        weight.normal_(generator=random)
    features = torch.randn(number, 24, height, width, generator=random)
    found = WinogradConvolution(layer)(features)
    exact = layer.double()(features.double())
    assert found.shape == exact.shape
    assert (found - exact).norm() <= 3e-6 * exact.norm()


@torch.no_grad()
def test_splitting_a_batch_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = WinogradConvolution(nn.Conv2d(16, 16, 3, padding=1))
    features = torch.randn(5, 16, 9, 6)
    whole = layer(features)
    monkeypatch.setattr(winograd, "_VALUES_AT_ONCE", 1)
    torch.testing.assert_close(layer(features), whole)


def test_only_wide_3x3_convolutions_of_stride_1_are_replaced() -> None:
    layers = nn.Sequential(
        nn.Conv2d(256, 8, 3, padding=1),
        nn.Conv2d(8, 256, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding=1, stride=2),
        nn.Conv2d(256, 256, 1),
        nn.Conv2d(256, 256, 3, padding=1, groups=2),
    )
    use_winograd(layers)
    assert [isinstance(layer, WinogradConvolution) for layer in layers] == [True, False, False, False, False]


def test_a_fused_teacher_whose_every_3x3_is_transformed_is_near_the_default(
    tiny_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "_MIN_CHANNELS", 8)
    images = torch.randn(2, 3, 96, 130, generator=torch.Generator().manual_seed(1))
    boxes = [torch.tensor([[0.0, 0, 64, 64], [10.3, 20.9, 90.1, 80.4]]), torch.tensor([[5.0, 5, 120, 90]])]
    default, fused, half = (
        make_teacher(tiny_clip, config).region_features(images, boxes)
        for config in (TeacherConfig(), TeacherConfig(fused=True), TeacherConfig(fused=True, precision="bf16"))
    )
    assert 0 < (fused - default).norm(dim=1).max() < 1e-5
    assert (half - default).norm(dim=1).max() > 1e-4


def test_a_fused_teacher_takes_images_without_boxes(tiny_clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "_MIN_CHANNELS", 8)
    teacher = make_teacher(tiny_clip, TeacherConfig(fused=True))
    features = teacher.region_features(torch.zeros(2, 3, 64, 64), [torch.empty(0, 4)] * 2)
    assert features.shape == (0, teacher.width)
