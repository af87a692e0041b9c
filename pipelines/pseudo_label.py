"""Captions and images in, region labels out."""

from __future__ import annotations

from pipelines import inputs
from pipelines.concept_pool import concepts_report
from pipelines.config import PipelineConfig
from pipelines.labels import labels_of
from pipelines.runner import Runner
from stages import encode_regions
from stages.contract import Artifact


def pseudo_label(config: PipelineConfig, run: Runner) -> Artifact:
    """The whole data flow, read top to bottom; the pool and its report come before any image is encoded."""
    images = inputs.images(config, run, config.data.train)
    if config.labels.candidates != "pool":
        inputs.captions(config, run)
    teacher = inputs.teacher(config, run)
    concepts_report(config, run)
    proposals = inputs.proposals(config, run, config.data.train)
    with inputs.named_by("regions"):
        regions = run(encode_regions.STAGE, config.regions, images=images, proposals=proposals, clip=teacher)
    return labels_of(config, run, regions, teacher)
