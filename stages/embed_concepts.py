"""Concepts + CLIP -> one text embedding a concept, over many prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from regionclip import prompts
from regionclip.clip_models import load_clip
from regionclip.embeddings import save_embeddings
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import read_table
from stages.ray_session import torch_threads

BATCH_SIZE = 256  # prompts of one forward pass; fixed, as it decides over the last bits of the result


@dataclass(frozen=True)
class EmbeddingsConfig:
    """How a name becomes an embedding.

    templates: the name of a set in `regionclip.prompts.TEMPLATES`.
    ensemble: 'mean' of raw embeddings (the method's), or of normalised ones, normalised again.
    """

    templates: str = "method81"
    ensemble: Literal["mean", "normalized_mean"] = "mean"


def embed_concepts(context: Context, config: EmbeddingsConfig, concepts: Artifact, clip: Artifact) -> Result:
    """Write `embeddings.safetensors` [N, D] and `concepts.json`, rows in the order of the pool."""
    if config.templates not in prompts.TEMPLATES:
        known = ", ".join(prompts.TEMPLATES)
        raise ValueError(f"templates '{config.templates}' is no known set of prompts; choose one of {known}")
    names: list[str] = read_table(concepts, "concepts", ["concept"])["concept"].to_pylist()
    if not names:
        raise ValueError(f"{concepts.folder.uri} holds no concepts; lower min_document_frequency or list names")
    model = load_clip(clip.folder.local()).to("cuda" if context.resources.num_gpus > 0 else "cpu")
    templates = prompts.TEMPLATES[config.templates]
    with torch.inference_mode(), torch_threads(context.resources.num_cpus):
        embeddings = prompts.embed_concepts(model, names, templates, config.ensemble, BATCH_SIZE)
    about = {"templates": config.templates, "num_templates": len(templates), "ensemble": config.ensemble}
    with context.folder.staging() as folder:
        save_embeddings(folder, names, embeddings, about)
    return Result(metrics={"concepts": len(names), "width": embeddings.shape[1]})


STAGE = Stage(
    name="embed_concepts",
    version=1,
    inputs={"concepts": ("concepts",), "clip": ("clip", "region_encoder")},
    output="embeddings",
    run=embed_concepts,
)
