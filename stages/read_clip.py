"""Source: CLIP weights from an open_clip tag, the Hugging Face hub, a file or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regionclip.clip_models import WEIGHTS, clip_width, read_pretrained, save_clip
from regionclip.digests import file_sha256
from regionclip.packaged import packaged_weights
from stages.contract import Context, Result, Stage


@dataclass(frozen=True)
class ClipConfig:
    """Which CLIP: an open_clip model name and its weights, as `regionclip.clip_models.read_pretrained` takes them.

    allow_untrained: take random weights of `seed` when `pretrained` is None; everything made with them is marked.
    """

    model: str = "RN50-quickgelu"
    pretrained: str | None = None
    allow_untrained: bool = False
    seed: int = 0


def read_clip(context: Context, config: ClipConfig) -> Result:
    """Write `clip.safetensors` and `clip.json`."""
    clip, untrained = read_pretrained(config.model, config.pretrained, config.allow_untrained, config.seed)
    with context.folder.staging() as folder:
        save_clip(clip, config.model, folder, provenance={**identity(config), "untrained": untrained})
    return Result(metrics={"width": clip_width(clip)}, marks=("untrained",) if untrained else ())


def identity(config: ClipConfig) -> Mapping[str, Any]:
    """The content of a local weights file; the public name of weights that are downloaded; the seed of random ones."""
    if config.pretrained is None:
        return asdict(config)
    path = packaged_weights(config.pretrained) or Path(config.pretrained)
    weights = path / WEIGHTS if path.is_dir() else path
    if weights.is_file():
        return {"model": config.model, "weights_sha256": file_sha256(weights)}
    return {"model": config.model, "pretrained": config.pretrained}


STAGE = Stage(name="read_clip", version=1, inputs={}, output="clip", run=read_clip, identity=identity)
