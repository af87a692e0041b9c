"""Single precision that is single precision on a GPU too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Within it, also as a decorator, cuDNN's convolutions of float32 do not round to TF32, as torch lets them.

    TF32 has 10 bits of mantissa, so that features of a GPU and of a CPU under one key would differ by 1e-3.
    """
    cudnn: Any = torch.backends.cudnn
    before = cudnn.conv.fp32_precision == "tf32"  # unlike `allow_tf32` it may be read whatever was set before
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before
