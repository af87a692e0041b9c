"""Checkpoints of detectron2's names and shapes, with random weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}


@dataclass(frozen=True)
class Layout:
    """What a checkpoint holds: stages 2 to `last` of `width` channels, and a pyramid of `fpn` channels or none."""

    last: int
    width: int
    fpn: int | None = None
    norm: bool = False
    convs: int = 1

    @property
    def bottom(self) -> str:
        return "backbone.bottom_up." if self.fpn else "backbone."


LAYOUTS = {
    "fpn": Layout(last=5, width=8, fpn=16),
    "lsj": Layout(last=5, width=8, fpn=16, norm=True, convs=2),
    "c4": Layout(last=4, width=8),
}


def shapes(layout: Layout) -> dict[str, tuple[int, ...]]:
    """Every entry of backbone and proposal generator, with its shape."""
    width, found = layout.width, dict(_convolution(f"{layout.bottom}stem.conv1", layout.width, 3, 7))
    inputs = width
    for stage in range(2, layout.last + 1):
        planes, outputs = width * 2 ** (stage - 2), 4 * width * 2 ** (stage - 2)
        for block in range(BLOCKS[stage]):
            name = f"{layout.bottom}res{stage}.{block}."
            if block == 0:
                found |= _convolution(f"{name}shortcut", outputs, inputs, 1)
            found |= _convolution(f"{name}conv1", planes, inputs, 1)
            found |= _convolution(f"{name}conv2", planes, planes, 3)
            found |= _convolution(f"{name}conv3", outputs, planes, 1)
            inputs = outputs
        if layout.fpn:
            found |= _convolution(f"backbone.fpn_lateral{stage}", layout.fpn, outputs, 1, layout.norm)
            found |= _convolution(f"backbone.fpn_output{stage}", layout.fpn, layout.fpn, 3, layout.norm)
    channels, anchors, head = layout.fpn or inputs, 3 if layout.fpn else 15, "proposal_generator.rpn_head."
    for number in range(layout.convs):
        conv = f"{head}conv.conv{number}" if layout.convs > 1 else f"{head}conv"
        found |= _convolution(conv, channels, channels, 3, norm=False)
    found |= _convolution(f"{head}objectness_logits", anchors, channels, 1, norm=False)
    found |= _convolution(f"{head}anchor_deltas", 4 * anchors, channels, 1, norm=False)
    return found


def _convolution(
    name: str, outputs: int, inputs: int, side: int, norm: bool = True
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs, side, side)
    if norm:
        yield from ((f"{name}.norm.{each}", (outputs,)) for each in ("weight", "bias", "running_mean", "running_var"))
    else:
        yield f"{name}.bias", (outputs,)


def weights(layout: Layout) -> dict[str, Tensor]:
    """Random entries under which activations keep their scale; the stem expects pixels of 0 to 255."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes(layout).items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 4:
            noise = noise / (shape[1] * shape[2] * shape[3]) ** 0.5 / (60 if "stem" in name else 1)
            noise = noise * (0.3 if "anchor_deltas" in name else 1)
        elif name.endswith("running_var"):
            noise = 1 + 0.3 * noise.sigmoid()
        elif name.endswith("norm.weight"):
            noise = (0.3 if "conv3" in name else 1) * (1 + 0.1 * noise)
        else:
            noise = 0.1 * noise
        state[name] = noise
    return state


@pytest.fixture(params=sorted(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> Layout:
    return LAYOUTS[request.param]


@pytest.fixture
def state(layout: Layout) -> dict[str, Tensor]:
    return weights(layout)


@pytest.fixture
def c4() -> Mapping[str, Tensor]:
    return weights(LAYOUTS["c4"])


@pytest.fixture
def published() -> dict[str, dict[str, Tensor]]:
    """Checkpoints of the full width, all zeros."""
    full = {
        "fpn": Layout(last=5, width=64, fpn=256),
        "lsj": Layout(last=5, width=64, fpn=256, norm=True, convs=2),
        "c4": Layout(last=4, width=64),
    }
    return {
        name: {each: torch.zeros(()).expand(shape) for each, shape in shapes(of).items()} for name, of in full.items()
    }
