"""Captions and images in, region labels out."""

from __future__ import annotations

from pipelines import inputs
from pipelines.concept_pool import concept_pool, concepts_report
from pipelines.config import PipelineConfig
from pipelines.runner import Runner
from stages import embed_concepts, encode_regions, label_regions
from stages.contract import Artifact


def pseudo_label(config: PipelineConfig, run: Runner) -> Artifact:
    """The whole data flow, read top to bottom."""
    images, captions = inputs.images(config, run, config.data.train), inputs.captions(config, run)
    teacher = inputs.teacher(config, run)
    concepts = concept_pool(config, run)
    concepts_report(config, run)
    embeddings = run(embed_concepts.STAGE, config.embeddings, concepts=concepts, clip=teacher)
    proposals = inputs.proposals(config, run, config.data.train)
    regions = run(encode_regions.STAGE, config.regions, images=images, proposals=proposals, clip=teacher)
    guides = captions if config.labels.candidates != "pool" else None
    return run(label_regions.STAGE, config.labels, regions=regions, embeddings=embeddings, captions=guides)
