"""Source: a trained proposer from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regionclip.digests import file_sha256
from regionclip.packaged import packaged_weights
from regionclip.proposer import load_proposer, save_proposer
from stages.contract import Context, Result, Stage

FILES = ("proposer.safetensors", "proposer.json")


@dataclass(frozen=True)
class ProposerSourceConfig:
    """weights: a folder that holds proposer.safetensors and proposer.json, or `rgc:NAME` for one of the package."""

    weights: str


def read_proposer(context: Context, config: ProposerSourceConfig) -> Result:
    """Write `proposer.safetensors` and `proposer.json`."""
    proposer = load_proposer(_folder(config))
    with context.folder.staging() as folder:
        save_proposer(proposer, folder)
    return Result()


def identity(config: ProposerSourceConfig) -> Mapping[str, Any]:
    """The content of the two files."""
    return {name: file_sha256(_folder(config) / name) for name in FILES}


def _folder(config: ProposerSourceConfig) -> Path:
    folder = packaged_weights(config.weights) or Path(config.weights)
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(f"proposer weights {config.weights}: {folder / name} is missing; train-proposer makes it")
    return folder


STAGE = Stage(name="read_proposer", version=1, inputs={}, output="proposer", run=read_proposer, identity=identity)
