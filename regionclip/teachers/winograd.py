"""3x3 convolutions on a CPU with a quarter of the multiplications."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_TILE, _READ = 4, 6  # a tile of results is a function of a larger tile of inputs
_INPUT = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
          [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]  # fmt: skip
_WEIGHT = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # in 24ths
_OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
_MIN_CHANNELS = 256  # with fewer, moving the tiles costs more than the products saved
_VALUES_AT_ONCE = 2**24


class WinogradConvolution(nn.Module):
    """A 3x3 convolution of stride 1 and padding 1, fp32, within 2e-6 of its result.

    Winograd's F(4x4, 3x3), with the matrices of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
    (2016): tiles of 6x6 inputs and the weights are transformed, multiplied point by point, and transformed back.
    """

    weight: Tensor
    bias: Tensor
    of_input: Tensor
    of_output: Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        of_input, of_weight, of_output = (
            torch.tensor(each, dtype=torch.float64) for each in (_INPUT, _WEIGHT, _OUTPUT)
        )
        of_weight /= 24
        weight = convolution.weight.detach().double()  # [K, C, 3, 3]
        transformed = torch.einsum("ai,kcij,bj->abck", of_weight, weight, of_weight).flatten(0, 1)
        self.register_buffer("weight", transformed.float().contiguous())  # [36, C, K]
        self.register_buffer("of_input", torch.kron(of_input, of_input).float())  # [36, 36]
        self.register_buffer("of_output", torch.kron(of_output, of_output).float())  # [16, 36]
        bias = convolution.bias
        self.register_buffer("bias", torch.zeros(len(weight)) if bias is None else bias.detach().float())

    def forward(self, features: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, K, H, W] in channels_last."""
        channels, height, width = features.shape[1:]
        size = channels * (height + _READ) * (width + _READ) * _READ**2 // _TILE**2
        return torch.cat([self._some(some) for some in torch.split(features, max(_VALUES_AT_ONCE // size, 1))])

    def _some(self, features: Tensor) -> Tensor:
        number, channels, height, width = features.shape
        rows, columns = -(-height // _TILE), -(-width // _TILE)
        right, below = columns * _TILE - width + 1, rows * _TILE - height + 1
        padded = functional.pad(features.permute(0, 2, 3, 1), (0, 0, 1, right, 1, below)).contiguous()
        each, down, across, channel = padded.stride()
        tiles = padded.as_strided(
            (_READ, _READ, number, rows, columns, channels),
            (down, across, each, _TILE * down, _TILE * across, channel),
        ).reshape(_READ**2, number * rows * columns * channels)
        transformed = (self.of_input @ tiles).view(_READ**2, number * rows * columns, channels)
        products = torch.bmm(transformed, self.weight)
        results = (self.of_output @ products.flatten(1)).view(_TILE, _TILE, number, rows, columns, len(self.bias))
        whole = results.permute(2, 3, 0, 4, 1, 5).reshape(number, rows * _TILE, columns * _TILE, len(self.bias))
        return (whole[:, :height, :width] + self.bias).permute(0, 3, 1, 2)


def use_winograd(visual: nn.Module) -> None:
    """Replace each 3x3 convolution of stride 1 that has channels enough, in place."""
    for parent in list(visual.modules()):
        for name, layer in list(parent.named_children()):
            if (
                isinstance(layer, nn.Conv2d)
                and layer.kernel_size == (3, 3)
                and layer.stride == layer.padding == layer.dilation == (1, 1)
                and layer.groups == 1
                and layer.in_channels >= _MIN_CHANNELS
            ):
                setattr(parent, name, WinogradConvolution(layer))
