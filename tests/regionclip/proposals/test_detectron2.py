"""Imported localisers give what plain double-precision arithmetic gives; no key of a checkpoint is left unaccounted."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from regionclip.images import normalize
from regionclip.proposals.detectron2 import network_of, read_detectron2
from regionclip.proposals.network import IMAGENET_MEAN, IMAGENET_STD, ProposalConfig, load_proposer, save_proposer

HEIGHT, WIDTH = 60, 90
MEAN_BGR = (103.53, 116.28, 123.675)
SELECTION = ProposalConfig(pre_nms=60, nms_iou=0.7, post_nms=30)


def image() -> Tensor:
    """uint8 [3, HEIGHT, WIDTH] RGB: blobs in noise."""
    coarse = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    return (255 * functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear"))[0].to(torch.uint8)


class Slow:
    """The reference's arithmetic in float64, written from its definition: one image, one box at a time."""

    def __init__(self, state: dict[str, Tensor], layout: Any) -> None:
        self.state = {name: value.double() for name, value in state.items()}
        self.layout = layout

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        x = functional.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, weight.shape[-1] // 2)
        if f"{name}.norm.weight" not in self.state:
            return x
        scale, shift, mean, variance = (
            self.state[f"{name}.norm.{each}"][:, None, None]
            for each in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def maps(self, rgb: Tensor) -> dict[int, Tensor]:
        bottom = self.layout.bottom
        x = rgb.flip(0).double() - torch.tensor(MEAN_BGR, dtype=torch.float64)[:, None, None]
        if self.layout.fpn:
            x = functional.pad(x, (0, -WIDTH % 32, 0, -HEIGHT % 32))
        x = functional.max_pool2d(self.conv(f"{bottom}stem.conv1", x[None], 2).relu(), 3, 2, 1)
        found = {}
        for stage in range(2, self.layout.last + 1):
            block = 0
            while f"{bottom}res{stage}.{block}.conv1.weight" in self.state:
                name = f"{bottom}res{stage}.{block}."
                stride = 2 if stage > 2 and block == 0 else 1
                y = self.conv(f"{name}conv1", x, stride).relu()
                y = self.conv(f"{name}conv3", self.conv(f"{name}conv2", y).relu())
                x = (y + (self.conv(f"{name}shortcut", x, stride) if block == 0 else x)).relu()
                block += 1
            found[2**stage] = x
        if not self.layout.fpn:
            return {16: x}
        above: Tensor | int = 0
        pyramid = {}
        for stage in (5, 4, 3, 2):
            merged = self.conv(f"backbone.fpn_lateral{stage}", found[2**stage]) + above
            pyramid[2**stage] = self.conv(f"backbone.fpn_output{stage}", merged)
            above = merged.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        pyramid[64] = pyramid[32][:, :, ::2, ::2]
        return dict(sorted(pyramid.items()))

    def candidates(self, stride: int, features: Tensor) -> list[tuple[float, list[float]]]:
        """(logit, clipped box) of every anchor of a level."""
        head = "proposal_generator.rpn_head."
        for number in range(self.layout.convs):
            features = self.conv(
                f"{head}conv.conv{number}" if self.layout.convs > 1 else f"{head}conv", features
            ).relu()
        logits, deltas = (self.conv(head + name, features)[0] for name in ("objectness_logits", "anchor_deltas"))
        logits, deltas = logits.numpy(), deltas.numpy()
        sides = (32, 64, 128, 256, 512) if not self.layout.fpn else (8 * stride,)
        shapes = [(side / ratio**0.5, side * ratio**0.5) for side in sides for ratio in (0.5, 1.0, 2.0)]
        found = []
        for row in range(features.shape[2]):
            for column in range(features.shape[3]):
                for number, (width, height) in enumerate(shapes):
                    dx, dy, dw, dh = deltas[4 * number : 4 * number + 4, row, column].tolist()
                    x, y = column * stride + dx * width, row * stride + dy * height
                    w, h = (side * np.exp(min(d, np.log(1000 / 16))) / 2 for side, d in ((width, dw), (height, dh)))
                    box = [max(x - w, 0.0), max(y - h, 0.0), min(x + w, float(WIDTH)), min(y + h, float(HEIGHT))]
                    found.append((logits[number, row, column], box))
        return found

    def propose(self, rgb: Tensor) -> list[tuple[float, list[float]]]:
        kept = []
        for stride, features in self.maps(rgb).items():
            best = sorted(self.candidates(stride, features), key=lambda each: -each[0])[: SELECTION.pre_nms]
            of_level: list[tuple[float, list[float]]] = []
            for logit, box in best:
                if box[2] > box[0] and box[3] > box[1] and all(iou(box, other) <= 0.7 for _, other in of_level):
                    of_level.append((logit, box))
            kept += of_level
        return sorted(kept, key=lambda each: -each[0])[: SELECTION.post_nms]


def iou(a: list[float], b: list[float]) -> float:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def proposals(network: Any) -> tuple[Tensor, Tensor]:
    pixels = normalize(image().float()[None] / 255, IMAGENET_MEAN, IMAGENET_STD)
    (found,) = network.propose(pixels, [(HEIGHT, WIDTH)], SELECTION)
    return found.boxes, found.objectness


def test_an_imported_localiser_proposes_what_plain_arithmetic_does(
    state: dict[str, Tensor], layout: Any, tmp_path: Path
) -> None:
    torch.save({"model": state, "iteration": 7}, tmp_path / "rpn.pth")
    save_proposer(read_detectron2(tmp_path / "rpn.pth"), tmp_path)
    boxes, objectness = proposals(load_proposer(tmp_path))
    expected = Slow(state, layout).propose(image())
    assert len(expected) == SELECTION.post_nms
    torch.testing.assert_close(
        objectness.double(), torch.tensor([logit for logit, _ in expected]).double(), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(boxes.double(), torch.tensor([box for _, box in expected]).double(), atol=1e-2, rtol=0)


def test_the_published_shapes_are_taken(published: dict[str, dict[str, Tensor]]) -> None:
    for name, state in published.items():
        network = network_of({"model": state})
        assert network.config.blocks == (3, 4, 6, 3)[: 3 if name == "c4" else 4]
        assert network.rpn.anchor_generator.num_anchors_per_location() == ([15] if name == "c4" else [3] * 5)


def test_every_key_of_the_network_must_be_there(state: dict[str, Tensor], layout: Any) -> None:
    needed = [f"{layout.bottom}res3.0.shortcut.weight", f"{layout.bottom}stem.conv1.norm.running_var"]
    needed += [name for name in state if name.endswith(("fpn_output3.weight", "logits.bias", "deltas.weight"))]
    for name in needed:
        with pytest.raises(ValueError, match=rf"'{re.escape(name)}' is missing|has no '{re.escape(name)}'"):
            network_of({each: value for each, value in state.items() if each != name})


@pytest.mark.parametrize("name", ["backbone.res6.0.conv1.weight", "backbone.extra", "mask_pooler.weight", "sem_seg.x"])
def test_an_unknown_key_is_named(c4: dict[str, Tensor], name: str) -> None:
    with pytest.raises(ValueError, match=r"stages \[2, 3, 4, 6\]|" + name.replace(".", r"\.")):
        network_of({**c4, name: torch.zeros(1)})


def test_a_wrong_shape_is_named(c4: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"anchor_deltas.bias' is \[12\], its place in the network \[60\]"):
        network_of({**c4, "proposal_generator.rpn_head.anchor_deltas.bias": torch.zeros(12)})


def test_what_else_a_detector_holds_is_dropped(c4: dict[str, Tensor]) -> None:
    ratios, sides = (0.5, 1.0, 2.0), (32, 64, 128, 256, 512)
    halves = torch.tensor([(side / ratio**0.5 / 2, side * ratio**0.5 / 2) for side in sides for ratio in ratios])
    whole = {
        "roi_heads.res5.0.conv1.weight": torch.zeros(2),
        "roi_heads.box_predictor.cls_score.weight": torch.zeros(2),
        "backbone.stem.conv1.norm.num_batches_tracked": torch.tensor(3),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.cat((-halves, halves), dim=1),
        "pixel_mean": torch.tensor(MEAN_BGR)[:, None, None],
        "pixel_std": torch.ones(3, 1, 1),
    }
    assert torch.equal(proposals(network_of({**c4, **whole}))[0], proposals(network_of(c4))[0])
    anchors = whole["proposal_generator.anchor_generator.cell_anchors.0"]
    with pytest.raises(ValueError, match=r"cell_anchors\.0' are not the anchors"):
        network_of({**c4, "proposal_generator.anchor_generator.cell_anchors.0": anchors.roll(1, dims=0)})


def test_pixels_of_another_scale_are_refused(c4: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"pixel_mean is \[0\.48"):
        network_of({**c4, "pixel_mean": torch.tensor([0.48, 0.46, 0.41])})


def test_a_file_without_statistics_means_zero_and_one(c4: dict[str, Tensor]) -> None:
    unity = {"running_mean": 0.0, "running_var": 1.0}
    stated = {
        name: torch.full_like(v, unity.get(name.split(".")[-1], 0)) if name.split(".")[-1] in unity else v
        for name, v in c4.items()
    }
    without = {name: value for name, value in c4.items() if name.split(".")[-1] not in unity}
    assert torch.equal(proposals(network_of(without))[1], proposals(network_of(stated))[1])
    with pytest.raises(ValueError, match="running_mean' is missing"):
        network_of({**without, "backbone.stem.conv1.norm.running_var": c4["backbone.stem.conv1.norm.running_var"]})


def test_a_localiser_beside_a_recogniser_is_found(c4: dict[str, Tensor]) -> None:
    both = {f"offline_{name}": value for name, value in c4.items()}
    both |= {"backbone.layer1.0.conv1.weight": torch.zeros(1), "lang_encoder.ln_final.bias": torch.zeros(1)}
    assert torch.equal(proposals(network_of(both))[0], proposals(network_of(c4))[0])
    with pytest.raises(ValueError, match=r"optimizer_state\.x"):
        network_of({**both, "optimizer_state.x": torch.zeros(1)})


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_of_arrays_is_read(c4: dict[str, Tensor], tmp_path: Path, protocol: int) -> None:
    arrays = {name: value.numpy() for name, value in c4.items()}
    content = {"model": arrays, "__author__": "someone", "matching_heuristics": True}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content, protocol))
    assert torch.equal(proposals(read_detectron2(tmp_path / "model.pkl"))[0], proposals(network_of(c4))[0])


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("ending", ["pkl", "pth"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, ending: str) -> None:
    path, made = tmp_path / f"model.{ending}", tmp_path / "made"
    if ending == "pkl":
        path.write_bytes(pickle.dumps({"model": Harmful(made)}))
    else:
        torch.save({"model": Harmful(made)}, path)
    with pytest.raises(ValueError, match=r"model\.pkl: the pickle names .*torch\.save|model\.pth .*more than tensors"):
        read_detectron2(path)
    assert not made.exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02}q\x00(", b"nothing of the kind"])
def test_a_damaged_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(ValueError, match="no readable pickle"):
        read_detectron2(tmp_path / "model.pkl")


@pytest.mark.parametrize("content", [[], {"model": 3}, {"model": {"a": "text"}}, {"conv1_w": np.zeros(3)}])
def test_other_contents_are_refused(content: Any) -> None:
    with pytest.raises(ValueError, match=r"state dict|detectron2 checkpoint"):
        network_of(content)
