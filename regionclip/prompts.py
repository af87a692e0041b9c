"""Concept names to text embeddings: templates, tokens, the prompt ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import open_clip
import torch
from open_clip import CLIP
from torch import Tensor
from torch.nn import functional

_OPENAI80 = tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
_PHOTO = "a photo of a {}."

TEMPLATES: dict[str, tuple[str, ...]] = {
    "method81": ("{}.", _PHOTO, *(template for template in _OPENAI80 if template != _PHOTO)),
    "openai80": _OPENAI80,
    "plain": ("{}.",),
}


def fill(template: str, name: str) -> str:
    """The prompt of a name: commas are deleted and '+' becomes a space, then the name takes the place of '{}'."""
    if "{}" not in template:
        raise ValueError(f"template '{template}' has no place for the name; write {{}} where it goes")
    return template.replace("{}", name.replace(",", "").replace("+", " "))


def lvis_name(name: str) -> str:
    """An LVIS category name as words: 'flip-flop_(sandal)' -> 'flip-flop sandal'."""
    return name.replace("_", " ").replace("(", "").replace(")", "")


def tokenize(texts: Sequence[str], context_length: int = 77) -> Tensor:
    """CLIP's BPE tokens, int64 [n, context_length], zero-padded; an overlong text is cut and still ends in EOT."""
    tokens: Tensor = open_clip.tokenize(list(texts), context_length)
    return tokens


@torch.no_grad()
def encode_texts(clip: CLIP, texts: Sequence[str], batch_size: int) -> Tensor:
    """Raw (not normalised) text projections [n, D] at the EOT token, without gradient, on the device of `clip`."""
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    projection: Tensor = clip.text_projection
    batches = [texts[start : start + batch_size] for start in range(0, len(texts), batch_size)]
    encoded = [_encode(clip, tokenize(batch, clip.context_length).to(projection.device)) for batch in batches]
    return torch.cat([projection.new_empty(0, projection.shape[1]), *encoded])


def _encode(clip: CLIP, tokens: Tensor) -> Tensor:
    """As `clip.encode_text`, on the columns up to the last EOT alone: attention is causal, so the rest has no say."""
    ends = tokens.argmax(dim=-1)  # EOT has the largest id
    length = int(ends.max()) + 1
    hidden = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]
    hidden = clip.ln_final(clip.transformer(hidden, attn_mask=clip.attn_mask[:length, :length]))  # [n, length, width]
    projected: Tensor = hidden[torch.arange(len(tokens), device=tokens.device), ends] @ clip.text_projection
    return projected


def embed_concepts(
    clip: CLIP,
    names: Sequence[str],
    templates: tuple[str, ...],
    ensemble: Literal["mean", "normalized_mean"] = "mean",
    batch_size: int = 256,
) -> Tensor:
    """One embedding [N, D] a name, over all its prompts.

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
    embeddings = [encode_texts(clip, [], batch_size)]  # [0, D], so that no names give an empty table
    for start in range(0, len(names), names_at_once):
        chunk = names[start : start + names_at_once]
        prompts = [fill(template, name) for name in chunk for template in templates]
        raw = encode_texts(clip, prompts, batch_size).view(len(chunk), len(templates), -1)  # [n, T, D]
        if ensemble == "mean":
            embeddings.append(raw.mean(dim=1))
        else:
            embeddings.append(functional.normalize(functional.normalize(raw, dim=-1).mean(dim=1), dim=-1))
    return torch.cat(embeddings)
