"""Reading files of torch.save without running what they may hold."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch


def read_torch_file(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU: tensors and plain containers alone.

    Raises ValueError for a pickle that names any other object (it is not run), for TorchScript, which holds code,
    and for a damaged or missing file.
    """
    try:
        scripted = _is_torchscript(path)
        loaded = None if scripted else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors; save tensors alone, such as the model's state_dict()"
        ) from error
    except Exception as error:  # reading damaged bytes as a pickle can end in nearly any
        raise ValueError(f"{path} is not a readable weights file ({error}); copy or download it again") from error
    if scripted:
        raise ValueError(
            f"{path} is a TorchScript archive (OpenAI's own form), which holds code; convert it once with "
            "torch.save(torch.jit.load(path, map_location='cpu').state_dict(), 'clip.pt') where you trust it"
        )
    return loaded


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
