"""Laws that hold for the teachers of every family, in every arrangement that the family has."""

from __future__ import annotations

import copy
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from regionclip.region_encoder import RegionEncoder
from regionclip.teachers import winograd
from regionclip.teachers.making import make_teacher
from regionclip.teachers.teacher import Teacher, TeacherConfig

FAMILIES = ("rgc-test-rn", "rgc-test-vit", "rgc-test-custom-text", "rgc-test-coca", "rgc-test-convnext")
IMAGES = torch.randn(2, 3, 96, 130, generator=torch.Generator().manual_seed(1))
BOXES = [
    torch.tensor([[0.0, 0, 64, 64], [10.3, 20.9, 90.1, 80.4], [-20, -10, 30, 40]]),
    torch.tensor([[5.0, 5, 120, 90], [60.2, 40.1, 75.9, 140.0]]),
]
WAYS = [
    (model, TeacherConfig(mode=mode, pooling=pooling, fused=fused))
    for model in FAMILIES
    for mode, pooling in (("dense", "head"), ("dense", "mean_pool"), ("crop", "head"))
    for fused in ((False, True) if model == FAMILIES[0] else (False,))
    if not (pooling == "mean_pool" and model in ("rgc-test-rn", "rgc-test-coca"))
]
"""Every path of every family; the two left out project through an attention pool alone."""


def in_words(model: str, config: TeacherConfig) -> str:
    return f"{model}-{config.mode}-{config.pooling}{'-fused' if config.fused else ''}"


every_way = pytest.mark.parametrize(("model", "config"), WAYS, ids=[in_words(*way) for way in WAYS])


def changed(config: TeacherConfig, **values: Any) -> TeacherConfig:
    return TeacherConfig(**{**vars(config), **values})


def features(teacher: Teacher, boxes: list[Tensor] = BOXES) -> Tensor:
    return teacher.region_features(IMAGES, boxes)


@every_way
def test_regions_of_several_images_are_those_of_each_alone_in_order(
    clips: dict[str, Any], model: str, config: TeacherConfig
) -> None:
    teacher = make_teacher(clips[model], config)
    alone = [
        teacher.region_features(IMAGES[index : index + 1], [box[None]])
        for index, boxes in enumerate(BOXES)
        for box in boxes
    ]
    together = features(teacher)
    assert together.shape == (5, teacher.width)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)


@every_way
def test_features_have_length_one_and_no_boxes_give_none(
    clips: dict[str, Any], model: str, config: TeacherConfig
) -> None:
    teacher = make_teacher(clips[model], config)
    found = features(teacher)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))
    assert features(teacher, [torch.empty(0, 4)] * 2).shape == (0, teacher.width)
    one = features(teacher, [torch.empty(0, 4), BOXES[1][:1]])
    torch.testing.assert_close(one, found[3:4], rtol=1e-5, atol=1e-6)


@every_way
def test_the_least_side_is_enough_and_any_less_is_not(clips: dict[str, Any], model: str, config: TeacherConfig) -> None:
    teacher = make_teacher(clips[model], config)
    least = teacher.least_side
    boxes = [torch.tensor([[0.0, 0, 90, least], [40, 0, 60, least]])]
    found = teacher.region_features(IMAGES[:1, :, :least], boxes)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    if config.mode != "crop":
        with pytest.raises(ValueError, match=f"each side needs {least}"):
            teacher.region_features(IMAGES[:1, :, : least - 1], boxes)


@every_way
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_near_and_not_the_same(
    clips: dict[str, Any], model: str, config: TeacherConfig, precision: str
) -> None:
    exact = features(make_teacher(clips[model], config))
    near = features(make_teacher(clips[model], changed(config, precision=precision)))
    apart = (near - exact).norm(dim=1).max()
    assert 0 < apart < {"bf16": 0.06, "fp16": 0.01}[precision]


@every_way
def test_the_layout_of_memory_changes_no_feature(
    clips: dict[str, Any], model: str, config: TeacherConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolve, layouts = functional.conv2d, set()

    def seen(features: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        if weight.shape[1] == 3:  # of the convolution of the pixels, the only one that each tower has
            layouts.add(weight.stride(1) == 1)
        return convolve(features, weight, *rest)

    monkeypatch.setattr(winograd, "_MIN_CHANNELS", 8)
    monkeypatch.setattr(functional, "conv2d", seen)
    found = {}
    for channels_last in (True, False):
        layouts.clear()
        found[channels_last] = features(make_teacher(clips[model], changed(config, channels_last=channels_last)))
        assert layouts == {channels_last}
    torch.testing.assert_close(found[True], found[False], rtol=1e-5, atol=1e-6)


@every_way
def test_single_precision_is_not_rounded_on_a_gpu_and_the_setting_is_put_back(
    clips: dict[str, Any], model: str, config: TeacherConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolve, rounded = functional.conv2d, []

    def seen(*given: Any) -> Tensor:
        rounded.append(torch.backends.cudnn.allow_tf32)
        return convolve(*given)

    monkeypatch.setattr(functional, "conv2d", seen)
    assert torch.backends.cudnn.allow_tf32
    features(make_teacher(clips[model], config))
    assert set(rounded) == {False}
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("rgc-test-rn", TeacherConfig()),
        ("rgc-test-rn", TeacherConfig(fused=True)),
        ("rgc-test-vit", TeacherConfig()),
        ("rgc-test-vit", TeacherConfig(mode="crop")),
        ("rgc-test-convnext", TeacherConfig()),
    ],
    ids=["plain", "fused", "dense", "crop", "convnext"],
)
def test_compiled_code_gives_the_same_features(
    clips: dict[str, Any], model: str, config: TeacherConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = features(make_teacher(clips[model], config))
    graphs = []

    def backend(graph: Any, inputs: list[Tensor]) -> Any:  # what 'eager' is: traces without needing a compiler
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    compiled = make_teacher(clips[model], changed(config, compile=True))
    of_the_check = len(graphs)
    torch.testing.assert_close(features(compiled), plain, rtol=1e-5, atol=1e-6)
    assert len(graphs) > of_the_check


@pytest.mark.parametrize(
    ("model", "side"), [("rgc-test-rn", 64), ("rgc-test-rn-9x9", 288), ("rgc-test-vit", 32), ("rgc-test-coca", 32)]
)
@pytest.mark.parametrize("mode", ["dense", "crop"])
def test_the_whole_image_at_native_size_is_clips_image_feature(
    clips: dict[str, Any], model: str, side: int, mode: Any
) -> None:
    image = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    whole = [torch.tensor([[0.0, 0, side, side]])] * 2
    with torch.no_grad():
        expected = functional.normalize(clips[model].encode_image(image), dim=1)
    found = make_teacher(clips[model], TeacherConfig(mode=mode)).region_features(image, whole)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_defaults_are_the_region_encoder_bit_for_bit_and_fused_is_near(clips: dict[str, Any]) -> None:
    encoder = RegionEncoder(copy.deepcopy(clips["rgc-test-rn"].visual)).eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = encoder.region_features(IMAGES, BOXES)
    assert torch.equal(features(make_teacher(clips["rgc-test-rn"], TeacherConfig())), expected)
    fused = features(make_teacher(clips["rgc-test-rn"], TeacherConfig(fused=True)))
    assert not torch.equal(fused, expected)
    torch.testing.assert_close(fused, expected, rtol=1e-5, atol=1e-6)


def test_making_a_teacher_leaves_the_clip_as_it_was(clips: dict[str, Any]) -> None:
    before = {name: tensor.clone() for name, tensor in clips["rgc-test-rn"].state_dict().items()}
    make_teacher(clips["rgc-test-rn"], TeacherConfig(fused=True, precision="bf16"))
    after = clips["rgc-test-rn"].state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


class Flat(nn.Module):
    """A tower that no arrangement but 'crop' can take."""

    image_size = 8

    def forward(self, crops: Tensor) -> Tensor:
        return crops.flatten(1)


def test_a_tower_without_a_map_is_cropped_and_refused_as_dense() -> None:
    clip: Any = SimpleNamespace(visual=Flat(), text=SimpleNamespace(output_dim=3 * 8 * 8))
    boxes = [torch.tensor([[8.0, 16, 16, 24]]), torch.tensor([[3.0, 3, 11, 11]])]
    found = make_teacher(clip, TeacherConfig()).region_features(IMAGES, boxes)
    cut = torch.stack([IMAGES[0, :, 16:24, 8:16], IMAGES[1, :, 3:11, 3:11]])
    torch.testing.assert_close(found, functional.normalize(cut.flatten(1), dim=1))
    with pytest.raises(ValueError, match="got Flat; choose mode 'crop'"):
        make_teacher(clip, TeacherConfig(mode="dense"))


def test_what_a_tower_has_not_is_refused(clips: dict[str, Any]) -> None:
    for model in ("rgc-test-rn", "rgc-test-coca"):
        with pytest.raises(ValueError, match="attention pool alone; choose pooling 'head'"):
            make_teacher(clips[model], TeacherConfig(pooling="mean_pool"))
    with pytest.raises(ValueError, match="'mean_pool' needs a map"):
        TeacherConfig(mode="crop", pooling="mean_pool")
    with pytest.raises(ValueError, match="precision 'fp8' is unknown; choose one of fp32, bf16, fp16"):
        TeacherConfig(precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 lists of boxes for 2 images"):
        make_teacher(clips["rgc-test-vit"], TeacherConfig()).region_features(IMAGES, BOXES[:1])
    with pytest.raises(ValueError, match="images of 130 x 15 pixels have no map; each side needs 16"):
        make_teacher(clips["rgc-test-vit"], TeacherConfig()).region_features(IMAGES[:, :, :15], BOXES)


def test_a_missing_compiler_is_said_when_the_teacher_is_made(
    clips: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(function: Any) -> Any:
        raise RuntimeError("no working C++ compiler found")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ValueError, match=r"no working C\+\+ compiler found.*install a C\+\+ compiler"):
        make_teacher(clips["rgc-test-rn"], TeacherConfig(compile=True))
