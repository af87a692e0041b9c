"""The tokenizer that belongs to a model: CLIP's own, or one in Hugging Face form that is kept beside the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer
from torch import Tensor

from regionclip.clip_models import clip_name
from regionclip.known_clips import model_config

FOLDER = "tokenizer"


class Tokenizer(Protocol):
    """Texts to token ids, int64 [n, context length]."""

    def __call__(self, texts: list[str]) -> Tensor: ...


def needs_tokenizer_files(model: str) -> bool:
    """Whether a model takes a tokenizer in Hugging Face form; all others take CLIP's, which open_clip brings."""
    return bool(model_config(model)["text_cfg"].get("hf_tokenizer_name"))


def make_tokenizer(model: str, source: str | None = None) -> Tokenizer:
    """The tokenizer of an open_clip model, with its context length and its way of cleaning texts.

    source: a local folder or a Hugging Face name in place of the one that the model's configuration names.
    Raises ValueError when it cannot be read, is not asked for, or has more tokens than the model knows.
    """
    text = model_config(model)["text_cfg"]
    options = text.get("tokenizer_kwargs") or {}
    context_length = text.get("context_length", DEFAULT_CONTEXT_LENGTH)
    if not needs_tokenizer_files(model):
        if source is not None:
            raise ValueError(f"'{model}' has CLIP's own tokenizer, not '{source}'; leave tokenizer out")
        own: Tokenizer = SimpleTokenizer(context_length=context_length, **options)
        return own
    name = source or text["hf_tokenizer_name"]
    try:
        tokenizer = HFTokenizer(
            name, context_length, tokenizer_mode=text.get("tokenizer_mode"), trust_remote_code=False, **options
        )
    except ImportError as error:
        raise ValueError(
            f"the tokenizer '{name}' of '{model}' needs the package transformers ({error}); "
            "install it with: pip install transformers"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the tokenizer '{name}' of '{model}' cannot be read ({error}); name a folder that holds it as tokenizer"
        ) from error
    return _fitting(tokenizer, model, name, text)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files of a Hugging Face tokenizer below the folder of `save_clip`, so that nothing is fetched again."""
    hugging_face: Any = tokenizer
    hugging_face.save_pretrained(str(folder / FOLDER))


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of the model that `save_clip` wrote to `folder`."""
    held = folder / FOLDER
    return make_tokenizer(clip_name(folder), str(held) if held.is_dir() else None)


def _fitting(tokenizer: Any, model: str, name: str, text: dict[str, Any]) -> Tokenizer:
    known = text.get("vocab_size")
    if known is not None and len(tokenizer.tokenizer) > known:
        raise ValueError(
            f"the tokenizer '{name}' has {len(tokenizer.tokenizer)} tokens, '{model}' knows {known}; "
            "name the tokenizer that the model was trained with"
        )
    fitting: Tokenizer = tokenizer
    return fitting
