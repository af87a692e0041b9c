"""CLIP models with a ResNet image tower: creating, loading and saving them."""

from __future__ import annotations

import difflib
import functools
import json
import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip import CLIP
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from regionclip.packaged import packaged_weights

WEIGHTS = "clip.safetensors"
DESCRIPTION = "clip.json"

_HUB = "hf-hub:"
_OPENAI_KEYS = frozenset({"input_resolution", "context_length", "vocab_size"})


def create_clip(model: str) -> CLIP:
    """A CLIP of an open_clip model name (or of `model_configs/`) with random weights from torch's generator.

    Raises ValueError for an unknown name and for one whose image tower is not a ResNet.
    """
    return CLIP(**_model_config(model)).eval()


def load_clip(folder: Path) -> CLIP:
    """The CLIP that `save_clip` wrote to `folder`, float32, in eval mode."""
    return _with_weights(_description(folder)["model"], _tensors(folder / WEIGHTS), str(folder / WEIGHTS))


def save_clip(
    clip: CLIP,
    model: str,
    folder: Path,
    dtype: torch.dtype | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write `clip.safetensors` (floating-point tensors as `dtype` when given) and `clip.json` to `folder`.

    `provenance` is free JSON; its key 'untrained' is what `read_pretrained` returns for this folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu() for name, tensor in clip.state_dict().items()}
    if dtype is not None:
        state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS)
    description = {"model": model, "provenance": dict(provenance or {})}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_pretrained(model: str, pretrained: str | None, allow_untrained: bool, seed: int) -> tuple[CLIP, bool]:
    """A CLIP with the weights that `pretrained` names, and whether they are untrained.

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
        weights = path
    elif pretrained.startswith(_HUB):
        weights = _from_hub(model, pretrained)
    else:
        weights = _from_tag(model, pretrained)
    return _with_weights(model, _tensors(weights), pretrained), False


def clip_width(clip: CLIP) -> int:
    """D, the width of the space that images and texts share."""
    return int(clip.visual.output_dim)


@functools.cache
def _known_models() -> tuple[str, ...]:
    open_clip.add_model_config(Path(__file__).parent / "model_configs")
    return tuple(open_clip.list_models())


def _model_config(model: str) -> dict[str, Any]:
    known = _known_models()
    if model not in known:
        lower = {name.lower(): name for name in known}
        close = [lower[name] for name in difflib.get_close_matches(model.lower(), lower, n=5, cutoff=0.5)]
        raise ValueError(f"CLIP model '{model}' is unknown; close names: {', '.join(close or _resnets())}")
    if model not in _resnets():
        raise ValueError(f"CLIP model '{model}' has no ResNet image tower; choose one of {', '.join(_resnets())}")
    config: dict[str, Any] = open_clip.get_model_config(model)
    return config


@functools.cache
def _resnets() -> tuple[str, ...]:
    return tuple(
        name
        for name in _known_models()
        if isinstance(open_clip.get_model_config(name)["vision_cfg"].get("layers"), list)
    )


def _untrained(model: str, allowed: bool, seed: int) -> CLIP:
    if not allowed:
        raise ValueError(
            f"no pretrained weights given for '{model}'; name them (a tag such as 'openai', a file or a folder), "
            "or set allow_untrained to work with random weights"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_clip(model)


def _from_folder(model: str, folder: Path) -> tuple[CLIP, bool]:
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


def _from_hub(model: str, source: str) -> Path:
    repository = source.removeprefix(_HUB)
    config_path = _download(source, lambda: download_pretrained_from_hf(repository, "open_clip_config.json"))
    config = json.loads(config_path.read_text(encoding="utf-8")).get("model_cfg")
    if config is None:
        raise ValueError(f"{source} is no open_clip repository: its open_clip_config.json has no 'model_cfg'")
    _check_activation(model, source, bool(config.get("quick_gelu", False)))
    return _download(source, lambda: download_pretrained_from_hf(repository))


def _from_tag(model: str, tag: str) -> Path:
    _model_config(model)
    config = open_clip.get_pretrained_cfg(model, tag)
    if not config:
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise ValueError(
            f"pretrained '{tag}' is neither a file, a folder nor a tag of '{model}'; "
            f"its tags: {', '.join(tags) or 'none'}"
        )
    _check_activation(model, f"tag '{tag}'", bool(config.get("quick_gelu", False)))
    return _download(f"tag '{tag}' of '{model}'", lambda: download_pretrained(config))


def _download(source: str, fetch: Callable[[], str]) -> Path:
    try:
        return Path(fetch())
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{source} could not be downloaded ({error}); give a local file instead") from error


def _check_activation(model: str, source: str, quick_gelu: bool) -> None:
    if bool(_model_config(model).get("quick_gelu", False)) == quick_gelu:
        return
    if quick_gelu:
        raise ValueError(f"{source} was trained with QuickGELU, '{model}' computes GELU; use '{model}-quickgelu'")
    raise ValueError(f"{source} was trained with GELU, '{model}' computes QuickGELU; use a name without '-quickgelu'")


def _tensors(path: Path) -> dict[str, Tensor]:
    """The state dict of a file, without its wrapper and 'module.' prefix, never unpickling other objects."""
    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        if _is_torchscript(path):
            raise ValueError(
                f"{path} is a TorchScript archive (OpenAI's own form), which holds code; convert it once with "
                "torch.save(torch.jit.load(path, map_location='cpu').state_dict(), 'clip.pt') where you trust it"
            )
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors; save the model's state_dict() alone"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a readable weights file ({error}); copy or download it again") from error
    return _unwrapped(loaded, path)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


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


def _with_weights(model: str, state: Mapping[str, Tensor], source: str) -> CLIP:
    if _OPENAI_KEYS & state.keys():
        _check_activation(model, f"{source}, a state dict of OpenAI,", True)
        state = {name: tensor for name, tensor in state.items() if name not in _OPENAI_KEYS}
    with torch.random.fork_rng(devices=[]):
        clip = create_clip(model)
    own = {name: tensor for name, tensor in clip.state_dict().items() if not name.endswith("num_batches_tracked")}
    _check_keys(model, own, state, source)
    clip.load_state_dict(dict(state), strict=False)
    return clip


def _check_keys(model: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    missing = [name for name in own if name not in state and name != "logit_scale"]
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
