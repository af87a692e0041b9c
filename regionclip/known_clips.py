"""What open_clip knows by name: configurations of models, and pretrained weights with the pixels they expect."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import open_clip
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf

from regionclip.images import CLIP_MEAN, CLIP_STD

HUB = "hf-hub:"
Channels: TypeAlias = tuple[float, float, float]


class Pixels(NamedTuple):
    """Mean and standard deviation by channel, of pixels in [0, 1], that images are normalised by."""

    mean: Channels = CLIP_MEAN
    std: Channels = CLIP_STD


class Source(NamedTuple):
    """A file of weights on this machine, and the pixels they were trained on."""

    path: Path
    pixels: Pixels


def model_config(model: str) -> dict[str, Any]:
    """A copy of the open_clip configuration of a model; ValueError with close names for an unknown one."""
    known = _known_models()
    if model not in known:
        lower = {name.lower(): name for name in known}
        close = [lower[name] for name in difflib.get_close_matches(model.lower(), lower, n=5, cutoff=0.5)]
        raise ValueError(
            f"CLIP model '{model}' is unknown; close names: {', '.join(close) or 'none'}; "
            "open_clip.list_models() gives all names"
        )
    config: dict[str, Any] = open_clip.get_model_config(model)
    return config


def has_resnet(model: str) -> bool:
    """Whether the image tower is CLIP's ResNet, which a region encoder needs."""
    return isinstance(model_config(model)["vision_cfg"].get("layers"), list)


@functools.cache
def _known_models() -> tuple[str, ...]:
    open_clip.add_model_config(Path(__file__).parent / "model_configs")
    return tuple(open_clip.list_models())


def check_activation(model: str, source: str, quick_gelu: bool) -> None:
    """Raise ValueError where weights were trained with another activation than the model of this name computes."""
    if bool(model_config(model).get("quick_gelu", False)) == quick_gelu:
        return
    if quick_gelu:
        raise ValueError(f"{source} was trained with QuickGELU, '{model}' computes GELU; use '{model}-quickgelu'")
    raise ValueError(f"{source} was trained with GELU, '{model}' computes QuickGELU; use a name without '-quickgelu'")


def from_hub(model: str, source: str) -> Source:
    """The weights of 'hf-hub:org/name'; ValueError where they cannot be had or are not for `model`."""
    repository = source.removeprefix(HUB)
    path = _download(source, lambda: download_pretrained_from_hf(repository, "open_clip_config.json"))
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_cfg") is None:
        raise ValueError(f"{source} is no open_clip repository: its open_clip_config.json has no 'model_cfg'")
    check_activation(model, source, bool(config["model_cfg"].get("quick_gelu", False)))
    pixels = pixels_of(config.get("preprocess_cfg") or {})
    return Source(_download(source, lambda: download_pretrained_from_hf(repository)), pixels)


def from_tag(model: str, tag: str) -> Source:
    """The weights of a tag of open_clip; ValueError where they cannot be had or are not for `model`."""
    model_config(model)
    config = open_clip.get_pretrained_cfg(model, tag)
    if not config:
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise ValueError(
            f"pretrained '{tag}' is neither a file, a folder nor a tag of '{model}'; "
            f"its tags: {', '.join(tags) or 'none'}"
        )
    if "quick_gelu" in config or model.endswith("-quickgelu"):  # else the model says it, and has no other name
        check_activation(model, f"tag '{tag}'", bool(config.get("quick_gelu", False)))
    return Source(_download(f"tag '{tag}' of '{model}'", lambda: download_pretrained(config)), pixels_of(config))


def usual_pixels(model: str) -> Pixels:
    """What all tags of a model were trained on, for weights that do not say it; CLIP's where tags differ."""
    tags = open_clip.list_pretrained_tags_by_model(model)
    stated = {pixels_of(open_clip.get_pretrained_cfg(model, tag)) for tag in tags}
    return stated.pop() if len(stated) == 1 else Pixels()


def pixels_of(config: Mapping[str, Any]) -> Pixels:
    """The 'mean' and 'std' of a configuration, CLIP's for what it leaves out."""
    return Pixels(**{name: tuple(config[name]) for name in Pixels._fields if config.get(name) is not None})


def _download(source: str, fetch: Callable[[], str]) -> Path:
    try:
        return Path(fetch())
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{source} could not be downloaded ({error}); give a local file instead") from error
