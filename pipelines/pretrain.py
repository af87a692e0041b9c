"""Region labels in, a pretrained region encoder out."""

from __future__ import annotations

from pipelines import inputs
from pipelines.concept_pool import concept_pool
from pipelines.config import PipelineConfig
from pipelines.pseudo_label import pseudo_label
from pipelines.runner import Runner
from stages import embed_concepts
from stages import pretrain as stage
from stages.contract import Artifact


def pretrain(config: PipelineConfig, run: Runner) -> Artifact:
    """The student, trained on the labels that the teacher gave and on captions."""
    start = inputs.student_start(config, run)
    captions = inputs.captions(config, run)  # what is wrong with them is said before any image is encoded
    return run(
        stage.STAGE,
        config.pretrain,
        clip=start,
        region_labels=pseudo_label(config, run),
        embeddings=run(embed_concepts.STAGE, config.embeddings, concepts=concept_pool(config, run), clip=start),
        images=inputs.images(config, run, config.data.train),
        captions=captions,
    )
