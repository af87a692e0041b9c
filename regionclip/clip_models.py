"""CLIP models of every kind that open_clip knows: creating, loading and saving them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from open_clip import CLIP, CoCa, CustomTextCLIP
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regionclip.known_clips import (
    HUB,
    Pixels,
    Source,
    check_activation,
    from_hub,
    from_tag,
    model_config,
    pixels_of,
    usual_pixels,
)
from regionclip.packaged import packaged_weights
from regionclip.torch_files import read_torch_file

Clip: TypeAlias = CLIP | CustomTextCLIP | CoCa

WEIGHTS = "clip.safetensors"
DESCRIPTION = "clip.json"

_OPENAI_KEYS = frozenset({"input_resolution", "context_length", "vocab_size"})
_SCALES = ("logit_scale", "logit_bias")  # of the training alone; some files leave them out or write them as [1]
_OLD_BUFFER = "text.transformer.embeddings.position_ids"  # of older Hugging Face text towers


def create_clip(model: str) -> Clip:
    """A model of an open_clip name (or of `model_configs/`) with random weights from torch's generator.

    Raises ValueError for an unknown name, and for a Hugging Face text tower whose description cannot be had.
    """
    config = model_config(model)
    vision, text = config["vision_cfg"], config["text_cfg"]
    from_hugging_face = "hf_model_name" in text
    own_text_tower = config.pop("custom_text", False) or from_hugging_face
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if from_hugging_face:
        text["hf_model_pretrained"] = False
    kind = CLIP if not own_text_tower else CoCa if "multimodal_cfg" in config else CustomTextCLIP
    try:
        clip = kind(**config).eval()
    except (OSError, RuntimeError) as error:
        if not from_hugging_face:
            raise
        raise ValueError(
            f"the text tower of '{model}' is the Hugging Face model '{text['hf_model_name']}', which cannot be made "
            f"here ({error}); install transformers and let it reach or cache that model, or choose another model"
        ) from error
    if isinstance(clip, CoCa):  # open_clip leaves this one weight as the memory happens to be
        nn.init.normal_(clip.text_decoder.text_projection, std=clip.text_decoder.width**-0.5)
    return clip


def load_clip(folder: Path) -> Clip:
    """The model that `save_clip` wrote to `folder`, float32, in eval mode."""
    description = _description(folder)
    clip = _with_weights(str(description["model"]), _tensors(folder / WEIGHTS), str(folder / WEIGHTS))
    _set_pixels(clip, pixels_of(description))
    return clip


def save_clip(
    clip: Clip,
    model: str,
    folder: Path,
    dtype: torch.dtype | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write `clip.safetensors` (floating-point tensors as `dtype` when given) and `clip.json` to `folder`.

    `clip.json` says the model and what pixels its weights were trained on. `provenance` is free JSON; its key
    'untrained' is what `read_pretrained` returns for this folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu() for name, tensor in clip.state_dict().items()}
    if dtype is not None:
        state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS)
    description = {"model": model, **known_pixels(clip)._asdict(), "provenance": dict(provenance or {})}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_pretrained(model: str, pretrained: str | None, allow_untrained: bool, seed: int) -> tuple[Clip, bool]:
    """A model with the weights that `pretrained` names, and whether they are untrained.

    pretrained: an open_clip tag ('openai'), 'hf-hub:org/name', 'rgc:NAME' for weights of this package, a weights
    file (.safetensors, or .pt, .pth, .bin holding a state dict in OpenAI or open_clip form), a folder of
    `save_clip`, or None for random weights of `seed`, which needs `allow_untrained`. Pickled objects other than
    tensors are refused.
    """
    if pretrained is None:
        return _untrained(model, allow_untrained, seed), True
    path = packaged_weights(pretrained) or Path(pretrained)
    if path.is_dir():
        return _from_folder(model, path)
    if path.is_file():
        source = Source(path, usual_pixels(model))
    else:
        source = from_hub(model, pretrained) if pretrained.startswith(HUB) else from_tag(model, pretrained)
    clip = _with_weights(model, _tensors(source.path), pretrained)
    _set_pixels(clip, source.pixels)
    return clip, False


def known_pixels(clip: Clip) -> Pixels:
    """What the weights were trained on, CLIP's where nobody said it; open_clip keeps it at the same place."""
    return pixels_of({name: getattr(clip.visual, f"image_{name}", None) for name in Pixels._fields})


def _set_pixels(clip: Clip, pixels: Pixels) -> None:
    for name, values in pixels._asdict().items():
        setattr(clip.visual, f"image_{name}", values)


def clip_width(clip: Clip) -> int:
    """D, the width of the space that images and texts share."""
    if not isinstance(clip, CLIP):
        return int(clip.text.output_dim)
    projection = clip.text_projection
    return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1])


def clip_name(folder: Path) -> str:
    """The model name of a folder that `save_clip` wrote."""
    return str(_description(folder)["model"])


def _untrained(model: str, allowed: bool, seed: int) -> Clip:
    if not allowed:
        raise ValueError(
            f"no pretrained weights given for '{model}'; name them (a tag such as 'openai', a file or a folder), "
            "or set allow_untrained to work with random weights"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_clip(model)


def _from_folder(model: str, folder: Path) -> tuple[Clip, bool]:
    description = _description(folder)
    if description["model"] != model:
        raise ValueError(f"{folder} holds a '{description['model']}', not a '{model}'; set model to that name")
    return load_clip(folder), bool(description.get("provenance", {}).get("untrained", False))


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} is not a CLIP folder; it needs {DESCRIPTION} and {WEIGHTS}, as save_clip writes")
    description = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(description, dict) or "model" not in description:
        raise ValueError(f"{path} does not name its model; it needs the key 'model'")
    return description


def _tensors(path: Path) -> dict[str, Tensor]:
    """The state dict of a file, without its wrapper and 'module.' prefix, never unpickling other objects."""
    if path.suffix != ".safetensors":
        return _unwrapped(read_torch_file(path), path)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable weights file ({error}); copy or download it again") from error
    return tensors


def _unwrapped(loaded: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, not a state dict; save the model's state_dict()")
    state = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _with_weights(model: str, state: Mapping[str, Tensor], source: str) -> Clip:
    if _OPENAI_KEYS & state.keys():
        check_activation(model, f"{source}, a state dict of OpenAI,", True)
        state = {name: tensor for name, tensor in state.items() if name not in _OPENAI_KEYS}
    with torch.random.fork_rng(devices=[]):
        clip = create_clip(model)
    state = _current_form(clip, dict(state))
    own = {name: tensor for name, tensor in clip.state_dict().items() if not name.endswith("num_batches_tracked")}
    _check_keys(model, own, state, source)
    clip.load_state_dict(state, strict=False)
    return clip


def _current_form(clip: Clip, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of older or other makers under the names that open_clip gives the same tensors now."""
    state = convert_state_dict(clip, state)
    if not isinstance(clip, CLIP) and "positional_embedding" in state:
        state = convert_to_custom_text_state_dict(state)
    own = clip.state_dict()
    for name in _SCALES:
        if name in state and name in own and state[name].numel() == own[name].numel():
            state[name] = state[name].reshape(own[name].shape)
    if _OLD_BUFFER not in own:
        state.pop(_OLD_BUFFER, None)
    return state


def _check_keys(model: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    missing = [name for name in own if name not in state and name not in _SCALES]
    unexpected = [name for name in state if name not in own and not name.endswith("num_batches_tracked")]
    misshapen = [
        f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [
        f"{len(names)} {what}: {_first(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise ValueError(f"{source} does not fit '{model}': {'; '.join(problems)}; choose the model it was made with")


def _first(names: Iterable[str], limit: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:limit]) + (", ..." if len(listed) > limit else "")
