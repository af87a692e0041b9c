"""Concepts + CLIP -> one text embedding a concept, over many prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from regionclip import prompts
from regionclip.clip_models import load_clip
from regionclip.embeddings import save_embeddings
from regionclip.tokenizers import load_tokenizer
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import read_table
from stages.ray_session import require_local_gpu, torch_threads

BATCH_SIZE = 256  # prompts of one forward pass; fixed, as it decides over the last bits of the result


@dataclass(frozen=True)
class EmbeddingsConfig:
    """How a name becomes an embedding.

    templates: the name of a set in `regionclip.prompts.TEMPLATES`, or a text file with one template a line and
        '{}' for the name.
    ensemble: 'mean' of raw embeddings (the method's), or of normalised ones, normalised again.
    names: how a name goes into a prompt: as it is, or with the underscores and brackets of LVIS taken out.
    """

    templates: str = "method81"
    ensemble: Literal["mean", "normalized_mean"] = "mean"
    names: Literal["verbatim", "lvis"] = "verbatim"


def embed_concepts(context: Context, config: EmbeddingsConfig, concepts: Artifact, clip: Artifact) -> Result:
    """Write `embeddings.safetensors` [N, D] and `concepts.json`, rows in the order of the pool."""
    require_local_gpu(context.resources.num_gpus)
    templates = prompts.read_templates(config.templates)
    names: list[str] = read_table(concepts, "concepts", ["concept"])["concept"].to_pylist()
    if not names:
        raise ValueError(f"{concepts.folder.uri} holds no concepts; lower min_document_frequency or list names")
    written = [prompts.NAME_FORMS[config.names](name) for name in names]
    weights = clip.folder.local()
    model, tokenizer = load_clip(weights), load_tokenizer(weights)
    model.to(context.resources.device)
    with torch.inference_mode(), torch_threads(context.resources.num_cpus):
        embeddings = prompts.embed_concepts(model, written, templates.texts, config.ensemble, BATCH_SIZE, tokenizer)
    about = {**identity(config), "templates": templates.source, "num_templates": len(templates.texts)}
    with context.folder.staging() as folder:
        save_embeddings(folder, names, embeddings, about)
    return Result(metrics={"concepts": len(names), "width": embeddings.shape[1]})


def identity(config: EmbeddingsConfig) -> Mapping[str, Any]:
    """The texts of the templates, wherever they stand, and what is done with names and prompts."""
    sha256 = prompts.read_templates(config.templates).sha256
    return {"templates_sha256": sha256, "ensemble": config.ensemble, "names": config.names}


STAGE = Stage(
    name="embed_concepts",
    version=2,
    inputs={"concepts": ("concepts",), "clip": ("clip", "region_encoder")},
    output="embeddings",
    run=embed_concepts,
    identity=identity,
)
