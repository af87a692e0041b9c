"""torch.compile with an error that says what is missing."""

from __future__ import annotations

import torch


def check_compiler(device: torch.device | str) -> None:
    """Compile and run one addition; ValueError where torch.compile does not work on this machine and device."""

    def add(value: torch.Tensor) -> torch.Tensor:
        return value + 1

    try:
        torch.compile(add)(torch.zeros(8, device=device))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"torch.compile does not work on '{device}' here ({reason}); install a C++ compiler such as g++ "
            "(on a GPU also Triton), or set compile to false"
        ) from error
