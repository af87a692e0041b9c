"""Source: concept embeddings from a bare tensor file, beside the text file that names its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regionclip.concepts.text_form import read_text_form
from regionclip.digests import file_sha256
from regionclip.embeddings import order_sha256, read_bare_embeddings, save_embeddings
from stages.contract import Context, Result, Stage


@dataclass(frozen=True)
class ReadEmbeddingsConfig:
    """embeddings: a `torch.save` file of one tensor [N, D]. concepts: a text file with the N names, in its order."""

    embeddings: str
    concepts: str


def read_embeddings(context: Context, config: ReadEmbeddingsConfig) -> Result:
    """Write `embeddings.safetensors` [N, D], the numbers as they are, and `concepts.json`."""
    names = _names(config)
    embeddings = read_bare_embeddings(_path(config.embeddings))
    if len(embeddings) != len(names):
        raise ValueError(
            f"{config.embeddings} has {len(embeddings)} rows, {config.concepts} {len(names)} names; "
            "give the list that the embeddings were made for"
        )
    with context.folder.staging() as folder:
        save_embeddings(folder, names, embeddings, {"source": "imported"})
    return Result(metrics={"concepts": len(names), "width": embeddings.shape[1]})


def identity(config: ReadEmbeddingsConfig) -> Mapping[str, Any]:
    """The content of the tensor file, and the names in their order."""
    path = _path(config.embeddings)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a .pth file that holds one tensor [N, D]")
    return {"embeddings_sha256": file_sha256(path), "order_sha256": order_sha256(_names(config))}


def _names(config: ReadEmbeddingsConfig) -> list[str]:
    names: list[str] = read_text_form(_path(config.concepts))["concept"].to_pylist()
    return names


def _path(text: str) -> Path:
    return Path(text).expanduser()


STAGE = Stage(name="read_embeddings", version=1, inputs={}, output="embeddings", run=read_embeddings, identity=identity)
