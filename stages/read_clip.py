"""Source: CLIP weights from an open_clip tag, the Hugging Face hub, a file or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regionclip import tokenizers
from regionclip.clip_models import WEIGHTS, clip_width, read_pretrained, save_clip
from regionclip.digests import file_sha256
from regionclip.packaged import packaged_weights
from stages.contract import Context, Result, Stage


@dataclass(frozen=True)
class ClipConfig:
    """Which CLIP: an open_clip model name and its weights, as `regionclip.clip_models.read_pretrained` takes them.

    tokenizer: for models with a tokenizer in Hugging Face form, a folder or name in place of the model's own; its
        files are kept beside the weights.
    allow_untrained: take random weights of `seed` when `pretrained` is None; everything made with them is marked.
    """

    model: str = "RN50-quickgelu"
    pretrained: str | None = None
    allow_untrained: bool = False
    seed: int = 0
    tokenizer: str | None = None


def read_clip(context: Context, config: ClipConfig) -> Result:
    """Write `clip.safetensors` and `clip.json`, and the folder `tokenizer` where the model needs one."""
    source = _tokenizer_source(config)
    clip, untrained = read_pretrained(config.model, config.pretrained, config.allow_untrained, config.seed)
    with context.folder.staging() as folder:
        save_clip(clip, config.model, folder, provenance={**identity(config), "untrained": untrained})
        if source is not None or tokenizers.needs_tokenizer_files(config.model):
            tokenizers.save_tokenizer(tokenizers.make_tokenizer(config.model, source), folder)
    return Result(metrics={"width": clip_width(clip)}, marks=("untrained",) if untrained else ())


def identity(config: ClipConfig) -> Mapping[str, Any]:
    """The content of local weights and tokenizers; the name of what is downloaded; the seed of random weights."""
    source = _tokenizer_source(config)
    tokenizer = {} if source is None else _tokenizer_identity(source)
    if config.pretrained is None:
        seeded = {name: value for name, value in asdict(config).items() if name != "tokenizer"}
        return {**seeded, **tokenizer}
    path = packaged_weights(config.pretrained) or Path(config.pretrained)
    weights = path / WEIGHTS if path.is_dir() else path
    if weights.is_file():
        return {"model": config.model, "weights_sha256": file_sha256(weights), **tokenizer}
    return {"model": config.model, "pretrained": config.pretrained, **tokenizer}


def _tokenizer_source(config: ClipConfig) -> str | None:
    """What was asked for, or the files that came in the folder of the weights; None for the model's own."""
    held = Path(config.pretrained or "") / tokenizers.FOLDER
    return config.tokenizer or (str(held) if config.pretrained and held.is_dir() else None)


def _tokenizer_identity(source: str) -> dict[str, Any]:
    folder = Path(source)
    if not folder.is_dir():
        return {"tokenizer": source}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {"tokenizer_sha256": {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}}


STAGE = Stage(name="read_clip", version=2, inputs={}, output="clip", run=read_clip, identity=identity)
