"""Source: a proposer, from a folder of our own or from a detectron2 checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regionclip.digests import file_sha256
from regionclip.packaged import packaged_weights
from regionclip.proposals.detectron2 import ENDINGS, read_detectron2
from regionclip.proposals.network import DESCRIPTION, WEIGHTS, load_proposer, save_proposer
from stages.contract import Context, Result, Stage

FILES = (WEIGHTS, DESCRIPTION)


@dataclass(frozen=True)
class ProposerSourceConfig:
    """weights: a folder with proposer.safetensors and proposer.json, `rgc:NAME` for one of the package, or a file.

    A file is a detectron2 checkpoint (.pth, .pt, .pkl) of an R-50-FPN or R-50-C4 proposer, with its detector or not.
    """

    weights: str


def read_proposer(context: Context, config: ProposerSourceConfig) -> Result:
    """Write `proposer.safetensors` and `proposer.json`."""
    checkpoint = _checkpoint(config)
    proposer = load_proposer(_folder(config)) if checkpoint is None else read_detectron2(checkpoint)
    with context.folder.staging() as folder:
        save_proposer(proposer, folder)
    return Result()


def identity(config: ProposerSourceConfig) -> Mapping[str, Any]:
    """The content of the two files, or of the checkpoint."""
    checkpoint = _checkpoint(config)
    if checkpoint is not None:
        return {"detectron2": file_sha256(checkpoint)}
    return {name: file_sha256(_folder(config) / name) for name in FILES}


def _checkpoint(config: ProposerSourceConfig) -> Path | None:
    path = Path(config.weights).expanduser()
    if path.suffix not in ENDINGS or path.is_dir():
        return None
    if not path.is_file():
        raise ValueError(f"proposer weights {path} do not exist; give a detectron2 checkpoint, a folder or rgc:NAME")
    return path


def _folder(config: ProposerSourceConfig) -> Path:
    folder = packaged_weights(config.weights) or Path(config.weights).expanduser()
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(
                f"proposer weights {config.weights}: {folder / name} is missing; give a folder that train-proposer "
                f"made, rgc:NAME, or a detectron2 checkpoint ({', '.join(ENDINGS)})"
            )
    return folder


STAGE = Stage(name="read_proposer", version=1, inputs={}, output="proposer", run=read_proposer, identity=identity)
