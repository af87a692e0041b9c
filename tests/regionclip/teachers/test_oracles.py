"""Each arrangement against a slow one: one region at a time, in fp64, with plain operations."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from regionclip.teachers import crop, winograd
from regionclip.teachers.making import make_teacher
from regionclip.teachers.teacher import TeacherConfig
from regionclip.teachers.winograd import WinogradConvolution

IMAGE = torch.randn(1, 3, 96, 130, generator=torch.Generator().manual_seed(1))
LARGE = torch.randn(1, 3, 320, 352, generator=torch.Generator().manual_seed(2))
BOXES = torch.tensor([[0.0, 0, 64, 64], [10.3, 20.9, 90.1, 80.4], [-20, -10, 30, 40], [60.2, 40.1, 75.9, 140.0]])
MANY = torch.cat([BOXES + shift for shift in range(0, 60, 3)])
CROPPED = torch.tensor([[10.3, 20.9, 40, 30.5], [-20, -10, 30, 40], [60.2, 40.1, 75.9, 140.0]])
Align = Callable[[Tensor, Tensor, int, float], Tensor]


def exact(clips: dict[str, Any], model: str) -> Any:
    return copy.deepcopy(clips[model].visual).eval().double()


def check(
    clips: dict[str, Any], model: str, config: TeacherConfig, boxes: Tensor, raw: list[Tensor], image: Tensor = IMAGE
) -> None:
    """Features within 1e-5 of the length-one fp64 features."""
    found = make_teacher(clips[model], config).region_features(image, [boxes])
    expected = functional.normalize(torch.stack(raw), dim=1)
    assert (found - expected).norm(dim=1).max() < 1e-5


def attention(attn: Any, query: Tensor, tokens: Tensor) -> Tensor:
    """Multi-head attention of one query [C] over tokens [T, C] with packed projections, head by head."""
    q_weight, k_weight, v_weight = attn.in_proj_weight.chunk(3)
    q_bias, k_bias, v_bias = attn.in_proj_bias.chunk(3)
    return attn.out_proj(
        _heads(q_weight @ query + q_bias, tokens @ k_weight.T + k_bias, tokens @ v_weight.T + v_bias, attn.num_heads)
    )


def _heads(query: Tensor, keys: Tensor, values: Tensor, num_heads: int) -> Tensor:
    width = len(query) // num_heads
    parts = [slice(head * width, (head + 1) * width) for head in range(num_heads)]
    weights = [torch.softmax(keys[:, part] @ query[part] / math.sqrt(width), dim=0) for part in parts]
    return torch.cat([weight @ values[:, part] for weight, part in zip(weights, parts, strict=True)])


@pytest.fixture(
    scope="module",
    params=[
        ("rgc-test-rn", 4, IMAGE, BOXES[:1]),
        ("rgc-test-rn", 4, IMAGE, MANY),
        ("rgc-test-rn-9x9", 18, LARGE, BOXES[:1]),
        ("rgc-test-rn-9x9", 18, IMAGE, BOXES),
    ],
    ids=["few", "many", "9x9-few", "9x9-many"],
)
def resnet_case(
    request: pytest.FixtureRequest, clips: dict[str, Any], align_oracle: Align
) -> tuple[str, Tensor, Tensor, list[Tensor]]:
    """A ResNet, an image, boxes whose bins are fewer or more than the map's positions, and their raw features."""
    model, size, image, boxes = request.param
    with torch.no_grad():
        return model, image, boxes, resnet_features(exact(clips, model), image, boxes, size, align_oracle)


def resnet_features(visual: Any, image: Tensor, boxes: Tensor, size: int, align_oracle: Align) -> list[Tensor]:
    feature_map = visual.layer3(visual.layer2(visual.layer1(visual.stem(image.double()))))[0]
    pool, raw = visual.attnpool, []
    for box in boxes:
        region = visual.layer4(align_oracle(feature_map, box, size, 1 / 16)[None])[0].flatten(1).T  # [tokens, C]
        tokens = torch.cat([region.mean(dim=0, keepdim=True), region]) + pool.positional_embedding
        attended = _heads(pool.q_proj(tokens[0]), pool.k_proj(tokens), pool.v_proj(tokens), pool.num_heads)
        raw.append(pool.c_proj(attended))
    return raw


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_resnet(clips: dict[str, Any], resnet_case: tuple[str, Tensor, Tensor, list[Tensor]], fused: bool) -> None:
    model, image, boxes, raw = resnet_case
    check(clips, model, TeacherConfig(fused=fused), boxes, raw, image)


def test_resnet_by_the_transformed_convolution(
    clips: dict[str, Any], resnet_case: tuple[str, Tensor, Tensor, list[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image, boxes, raw = resnet_case
    convolve, reached = WinogradConvolution.forward, set()

    def seen(layer: WinogradConvolution, features: Tensor) -> Tensor:
        reached.add(len(layer.bias))
        return convolve(layer, features)

    monkeypatch.setattr(winograd, "_MIN_CHANNELS", 8)
    monkeypatch.setattr(WinogradConvolution, "forward", seen)
    check(clips, model, TeacherConfig(fused=True), boxes, raw, image)
    width = clips[model].visual.conv3.out_channels
    assert reached >= {width, 2 * width, 4 * width, 8 * width}


def vit_tokens(visual: Any, blocks: Any) -> tuple[Tensor, Tensor]:
    """Class token [C] and map [C, 6, 8] after the blocks; the last 2 columns of pixels make no patch."""
    patches = visual.conv1(IMAGE.double())[0].flatten(1).T  # [48, C]
    square = visual.positional_embedding[1:].T.unflatten(1, visual.grid_size)[None]
    positions = functional.interpolate(square, (6, 8), mode="bicubic", antialias=True)[0].flatten(1).T
    first = visual.class_embedding + visual.positional_embedding[0]
    tokens = visual.ln_pre(torch.cat([first[None], patches + positions]))
    for block in blocks:
        tokens = block(tokens[None])[0]
    return tokens[0], tokens[1:].T.unflatten(1, (6, 8))


@pytest.mark.parametrize("model", ["rgc-test-vit", "rgc-test-custom-text"])
@torch.no_grad()
def test_vit_by_its_head(clips: dict[str, Any], align_oracle: Align, model: str) -> None:
    visual = exact(clips, model)
    *before, last = visual.transformer.resblocks
    token, feature_map = vit_tokens(visual, before)
    raw = []
    for box in BOXES:
        region = align_oracle(feature_map, box, visual.grid_size[0], 1 / 16).flatten(1).T
        normed = last.ln_1(torch.cat([token[None], region]))
        out = token + attention(last.attn, normed[0], normed)
        out = out + last.mlp(last.ln_2(out))
        raw.append(visual.ln_post(out) @ visual.proj)
    check(clips, model, TeacherConfig(), BOXES, raw)


@torch.no_grad()
def test_vit_by_the_mean(clips: dict[str, Any], align_oracle: Align) -> None:
    visual = exact(clips, "rgc-test-vit")
    _, feature_map = vit_tokens(visual, visual.transformer.resblocks)
    means = [align_oracle(feature_map, box, 2, 1 / 16).mean(dim=(1, 2)) for box in BOXES]
    raw = [visual.ln_post(mean) @ visual.proj for mean in means]
    check(clips, "rgc-test-vit", TeacherConfig(pooling="mean_pool"), BOXES, raw)


@torch.no_grad()
def test_coca_by_its_attention_pool(clips: dict[str, Any], align_oracle: Align) -> None:
    visual = exact(clips, "rgc-test-coca")
    token, feature_map = vit_tokens(visual, visual.transformer.resblocks)
    pool, raw = visual.attn_pool, []
    for box in BOXES:
        tokens = pool.ln_k(torch.cat([token[None], align_oracle(feature_map, box, 2, 1 / 16).flatten(1).T]))
        raw.append(visual.ln_post(attention(pool.attn, pool.ln_q(pool.query)[0], tokens)) @ visual.proj)
    check(clips, "rgc-test-coca", TeacherConfig(), BOXES, raw)


@pytest.mark.parametrize("pooling", ["head", "mean_pool"])
@torch.no_grad()
def test_convnext(clips: dict[str, Any], align_oracle: Align, pooling: Any) -> None:
    visual = exact(clips, "rgc-test-convnext")
    trunk, raw = visual.trunk, []
    feature_map = trunk.norm_pre(trunk.stages(trunk.stem(IMAGE.double())))[0]
    assert tuple(feature_map.shape[1:]) == (3, 4)
    norm = trunk.head.norm
    for box in BOXES:
        mean = align_oracle(feature_map, box, 2, 1 / 32).mean(dim=(1, 2))
        normed = (mean - mean.mean()) / (mean.var(correction=0) + norm.eps).sqrt() * norm.weight + norm.bias
        raw.append(visual.head.proj.weight @ normed)
    check(clips, "rgc-test-convnext", TeacherConfig(pooling=pooling), BOXES, raw)


@pytest.fixture(scope="module")
def crops(align_oracle: Align) -> Callable[[int], list[Tensor]]:
    """crops(side): the boxes CROPPED of IMAGE at this size; one enlarged, one partly outside, one shrunk."""

    @functools.cache
    def cut(side: int) -> list[Tensor]:
        return [align_oracle(IMAGE[0].double(), box, side, 1.0) for box in CROPPED]

    return cut


@pytest.mark.parametrize(
    ("model", "fused"),
    [
        ("rgc-test-rn", False),
        ("rgc-test-rn", True),
        ("rgc-test-vit", False),
        ("rgc-test-custom-text", False),
        ("rgc-test-coca", False),
        ("rgc-test-convnext", False),
    ],
)
@torch.no_grad()
def test_crop(
    clips: dict[str, Any],
    crops: Callable[[int], list[Tensor]],
    model: str,
    fused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    visual = exact(clips, model)
    raw = []
    for region in crops(int(torch.as_tensor(visual.image_size).flatten()[0])):
        features = visual(region[None])
        raw.append((features[0] if isinstance(features, tuple) else features)[0])
    monkeypatch.setitem(crop._CROPS_AT_ONCE, "cpu", 2)  # so that the boxes take more than one batch
    check(clips, model, TeacherConfig(mode="crop", fused=fused), CROPPED, raw)
