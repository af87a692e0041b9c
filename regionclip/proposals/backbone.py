"""A ResNet of any width and depth, for networks smaller than those torchvision ships."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, Bottleneck

BlockName = Literal["basic", "bottleneck"]


class ResidualBackbone(nn.Module):
    """A ResNet without classifier whose parameters have torchvision's names and shapes.

    blocks: how many a stage. width: channels inside the first stage's blocks, doubled by each next stage.
    levels: the strides (4, 8, 16, ...) whose maps are given. stride_in_1x1: a bottleneck strides in its first
    convolution, as in the weights of MSRA, and not in its second.
    """

    def __init__(
        self,
        block: BlockName,
        blocks: Sequence[int],
        width: int,
        levels: Sequence[int],
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__()
        kind: type[BasicBlock] | type[Bottleneck] = BasicBlock if block == "basic" else Bottleneck
        self.levels = tuple(levels)
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.channels: dict[int, int] = {}
        channels = width
        for stage, depth in enumerate(blocks):
            layer, channels = _stage(kind, channels, width * 2**stage, depth, stride=1 if stage == 0 else 2)
            self.add_module(f"layer{stage + 1}", layer)
            self.channels[4 * 2**stage] = channels
            if stride_in_1x1 and isinstance(layer[0], Bottleneck):
                layer[0].conv1.stride, layer[0].conv2.stride = layer[0].conv2.stride, layer[0].conv1.stride

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Maps by the name of their stride, finest first, of normalised images [B, 3, H, W]."""
        features = functional.max_pool2d(functional.relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)
        maps: OrderedDict[str, Tensor] = OrderedDict()
        for stage, stride in enumerate(self.channels):
            features = self.get_submodule(f"layer{stage + 1}")(features)
            if stride in self.levels:
                maps[str(stride)] = features
        return maps


def _stage(
    block: type[BasicBlock] | type[Bottleneck], channels: int, planes: int, depth: int, stride: int
) -> tuple[nn.Sequential, int]:
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or channels != outputs:
        shortcut = nn.Sequential(nn.Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    layers = [block(channels, planes, stride, shortcut), *(block(outputs, planes) for _ in range(depth - 1))]
    return nn.Sequential(*layers), outputs
