"""Concept names to text embeddings: templates, tokens, the prompt ensemble."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
from open_clip import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor
from torch.nn import functional

from regionclip.clip_models import Clip, clip_width
from regionclip.tokenizers import Tokenizer

_CLIP_VOCABULARY = 49408
_OPENAI80 = tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
_PHOTO = "a photo of a {}."

TEMPLATES: dict[str, tuple[str, ...]] = {
    "method81": ("{}.", _PHOTO, *(template for template in _OPENAI80 if template != _PHOTO)),
    "openai80": _OPENAI80,
    "plain": ("{}.",),
}

FROM_FILE = "file"


@dataclass(frozen=True)
class Templates:
    """Prompts with '{}' for the name; `source` is the name of the set with these texts, or 'file', never a path."""

    source: str
    texts: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The sha256 (hex) of the texts in their order."""
        return hashlib.sha256(json.dumps(self.texts, ensure_ascii=False).encode()).hexdigest()


def read_templates(source: str) -> Templates:
    """The templates of a set of `TEMPLATES`, or of a text file with one template a line (blank lines are skipped).

    Raises ValueError for an unknown name, an unreadable or empty file and a line without '{}'.
    """
    if source in TEMPLATES:
        return Templates(source, TEMPLATES[source])
    path = Path(source).expanduser()
    if not path.is_file():
        raise ValueError(f"templates '{source}' is no file and no known set of prompts; choose {', '.join(TEMPLATES)}")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save the templates as UTF-8") from error
    for number, line in enumerate(lines, 1):
        if line.strip() and "{}" not in line:
            raise ValueError(f"{path}:{number}: '{line.strip()}' has no place for the name; write {{}} where it goes")
    texts = tuple(line.strip() for line in lines if line.strip())
    if not texts:
        raise ValueError(f"{path} holds no templates; write one a line, with {{}} for the name")
    return Templates(next((name for name, known in TEMPLATES.items() if known == texts), FROM_FILE), texts)


def fill(template: str, name: str) -> str:
    """The prompt of a name: commas are deleted and '+' becomes a space, then the name takes the place of '{}'."""
    if "{}" not in template:
        raise ValueError(f"template '{template}' has no place for the name; write {{}} where it goes")
    return template.replace("{}", name.replace(",", "").replace("+", " "))


def lvis_name(name: str) -> str:
    """An LVIS category name as words: 'flip-flop_(sandal)' -> 'flip-flop sandal'."""
    return name.replace("_", " ").replace("(", "").replace(")", "")


NAME_FORMS: dict[str, Callable[[str], str]] = {"verbatim": str, "lvis": lvis_name}


def tokenize(texts: Sequence[str], context_length: int = 77) -> Tensor:
    """CLIP's BPE tokens, int64 [n, context_length], zero-padded; an overlong text is cut and still ends in EOT."""
    tokens: Tensor = open_clip.tokenize(list(texts), context_length)
    return tokens


@torch.no_grad()
def encode_texts(clip: Clip, texts: Sequence[str], batch_size: int, tokenizer: Tokenizer | None = None) -> Tensor:
    """Raw (not normalised) text features [n, D], without gradient, on the device of `clip`.

    tokenizer: the model's own (`regionclip.tokenizers`); None takes CLIP's, which needs a model of that vocabulary.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    tokenizer = tokenizer or _clip_tokenizer(clip)
    tower = _causal_tower(clip)
    weight = next(clip.parameters())
    features = [torch.empty(0, clip_width(clip), dtype=weight.dtype, device=weight.device)]
    for start in range(0, len(texts), batch_size):
        tokens = tokenizer(list(texts[start : start + batch_size])).to(weight.device)
        encoded = clip.encode_text(tokens, normalize=False) if tower is None else _encode_causal(tower, tokens)
        features.append(encoded)
    return torch.cat(features)


def _clip_tokenizer(clip: Clip) -> Tokenizer:
    vocabulary = getattr(clip, "vocab_size", _CLIP_VOCABULARY)
    if vocabulary != _CLIP_VOCABULARY:
        raise ValueError(
            f"this model has a vocabulary of {vocabulary} tokens, CLIP's tokenizer {_CLIP_VOCABULARY}; "
            "give the model's own tokenizer"
        )
    return partial(tokenize, context_length=clip.context_length)


def _causal_tower(clip: Clip) -> Any | None:
    """The module that holds a text transformer of CLIP's kind, causal and read at the largest token; else None."""
    tower = clip if isinstance(clip, CLIP) else clip.text
    if isinstance(tower, CLIP):
        pool_type = tower.text_pool_type
    elif isinstance(tower, TextTransformer) and tower.cls_emb is None and not tower.use_pad_mask:
        pool_type = tower.pool_type
    else:
        return None
    plain = pool_type == "argmax" and tower.attn_mask is not None and isinstance(tower.text_projection, Tensor)
    return tower if plain else None


def _encode_causal(tower: Any, tokens: Tensor) -> Tensor:
    """As `encode_text`, on the columns up to the last EOT alone: attention is causal, so the rest has no say."""
    ends = tokens.argmax(dim=-1)  # EOT has the largest id
    length = int(ends.max()) + 1
    hidden = tower.token_embedding(tokens[:, :length]) + tower.positional_embedding[:length]
    hidden = tower.ln_final(tower.transformer(hidden, attn_mask=tower.attn_mask[:length, :length]))  # [n, length, w]
    projected: Tensor = hidden[torch.arange(len(tokens), device=tokens.device), ends] @ tower.text_projection
    return projected


def embed_concepts(
    clip: Clip,
    names: Sequence[str],
    templates: tuple[str, ...],
    ensemble: Literal["mean", "normalized_mean"] = "mean",
    batch_size: int = 256,
    tokenizer: Tokenizer | None = None,
) -> Tensor:
    """One embedding [N, D] a name, over all its prompts; `tokenizer` as in `encode_texts`.

    'mean' is the un-normalised mean of raw projections, as the method stores them; 'normalized_mean' averages
    normalised projections and normalises again. Raises ValueError for a blank name or no templates.
    """
    if ensemble not in ("mean", "normalized_mean"):
        raise ValueError(f"ensemble '{ensemble}' is unknown; choose 'mean' or 'normalized_mean'")
    if not templates:
        raise ValueError(f"no templates given; take one of TEMPLATES: {', '.join(TEMPLATES)}")
    blank = next((position for position, name in enumerate(names) if not name.strip()), None)
    if blank is not None:
        raise ValueError(f"concept name {blank} is blank; remove it from the list")
    names_at_once = max(1, batch_size // len(templates))
    embeddings = [encode_texts(clip, [], batch_size, tokenizer)]  # [0, D], so that no names give an empty table
    for start in range(0, len(names), names_at_once):
        chunk = names[start : start + names_at_once]
        prompts = [fill(template, name) for name in chunk for template in templates]
        raw = encode_texts(clip, prompts, batch_size, tokenizer).view(len(chunk), len(templates), -1)  # [n, T, D]
        if ensemble == "mean":
            embeddings.append(raw.mean(dim=1))
        else:
            embeddings.append(functional.normalize(functional.normalize(raw, dim=-1).mean(dim=1), dim=-1))
    return torch.cat(embeddings)
