"""Concept embeddings on disk: one row a concept, beside the names and a hash of their order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from regionclip.torch_files import read_torch_file

EMBEDDINGS = "embeddings.safetensors"
DESCRIPTION = "concepts.json"


def order_sha256(concepts: Sequence[str]) -> str:
    """The sha256 (hex) of names in their order; it ties rows of numbers to names."""
    return hashlib.sha256(json.dumps(list(concepts), ensure_ascii=False).encode()).hexdigest()


def save_embeddings(
    folder: Path, concepts: Sequence[str], embeddings: Tensor, about: Mapping[str, Any] | None = None
) -> None:
    """Write embeddings [N, D] of N concepts; `about` is further JSON, such as the templates."""
    assert embeddings.shape[:-1] == (len(concepts),), (embeddings.shape, len(concepts))
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"embeddings": embeddings.detach().cpu().float().contiguous()}, folder / EMBEDDINGS)
    description = {**(about or {}), "concepts": list(concepts), "order_sha256": order_sha256(concepts)}
    text = json.dumps(description, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def load_embeddings(folder: Path, width: int | None = None) -> tuple[list[str], Tensor]:
    """The names and embeddings float32 [N, D] that `save_embeddings` wrote, un-normalised as they were saved.

    Raises ValueError for missing or unreadable files, a number of rows that is not that of the names, names
    in another order than the embeddings were made with, and a D other than `width`.
    """
    weights, description = folder / EMBEDDINGS, folder / DESCRIPTION
    for path in (weights, description):
        if not path.is_file():
            raise ValueError(f"{path}: no such file; give a folder that embed_concepts wrote")
    try:
        embeddings = load_file(weights)["embeddings"]
        about = json.loads(description.read_text(encoding="utf-8"))
        concepts = [str(name) for name in about["concepts"]]
        expected = about["order_sha256"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder}: not readable as concept embeddings ({error}); remove this folder and run again"
        ) from error
    if embeddings.ndim != 2 or len(embeddings) != len(concepts):
        raise ValueError(
            f"{folder}: embeddings of shape {list(embeddings.shape)} for {len(concepts)} concepts; "
            "remove this folder and run again"
        )
    if order_sha256(concepts) != expected:
        raise ValueError(
            f"{folder}: the concepts are not those, or not in the order, that the embeddings were made with "
            f"(hash {order_sha256(concepts)[:12]} instead of {str(expected)[:12]}); remove this folder and run again"
        )
    if width is not None:
        check_width(embeddings, width, str(folder))
    return concepts, embeddings.float()


def read_bare_embeddings(path: Path) -> Tensor:
    """Embeddings float32 [N, D] of a `torch.save` file that holds one tensor and no names, [D] being [1, D].

    Raises ValueError for an unreadable file, a pickle that holds anything else than a tensor (it is not run), a
    tensor of whole numbers or another shape, and a row with NaN or infinity.
    """
    loaded = read_torch_file(path)
    if not isinstance(loaded, Tensor):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, not a tensor; save the embeddings [N, D] alone")
    embeddings = loaded.detach()
    if embeddings.ndim == 1:
        embeddings = embeddings[None]
    if embeddings.ndim != 2 or 0 in embeddings.shape or not embeddings.is_floating_point() or embeddings.is_sparse:
        kind = str(loaded.dtype).removeprefix("torch.")
        raise ValueError(f"{path} holds {kind} {list(loaded.shape)}; embeddings are floating-point numbers [N, D]")
    embeddings = embeddings.float().contiguous()
    broken = (~embeddings.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(
            f"{path}: {len(broken)} of {len(embeddings)} rows hold NaN or infinity, first is row {broken[0]}; "
            "make the embeddings again"
        )
    return embeddings


def write_bare_embeddings(file: BinaryIO, embeddings: Tensor) -> None:
    """Write embeddings [N, D] as `read_bare_embeddings` reads them: float32, as they are, without names."""
    torch.save(embeddings.detach().cpu().float().clone(memory_format=torch.contiguous_format), file)


def check_width(embeddings: Tensor, encoder_width: int, what: str) -> None:
    """Raise ValueError unless embeddings [N, D] named `what` lie in the space of an encoder of that width."""
    if embeddings.shape[-1] != encoder_width:
        raise ValueError(
            f"{what}: embedding width {embeddings.shape[-1]} differs from the region encoder's width {encoder_width}; "
            "embed the concepts with the text tower that belongs to this encoder"
        )


def check_classes(embedded: Sequence[str], classes: Sequence[str], what: str) -> None:
    """Raise ValueError unless the embedded names are the class names, in the same order."""
    if len(embedded) != len(classes):
        raise ValueError(
            f"{what}: {len(embedded)} embedded names for {len(classes)} classes; embed exactly the class list"
        )
    for position, (have, need) in enumerate(zip(embedded, classes, strict=True)):
        if have != need:
            raise ValueError(
                f"{what}: row {position} is the embedding of '{have}', the class list has '{need}' there; "
                "embed the class list in its own order"
            )
