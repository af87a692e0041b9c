"""A region encoder in, an open-vocabulary detector out."""

from __future__ import annotations

from pipelines import inputs
from pipelines.config import PipelineConfig
from pipelines.pretrain import pretrain
from pipelines.runner import Runner
from stages import transfer as stage
from stages.contract import Artifact


def transfer(config: PipelineConfig, run: Runner) -> Artifact:
    """The detector of the pretrained student."""
    return to_detector(config, run, pretrain(config, run))


def to_detector(config: PipelineConfig, run: Runner, encoder: Artifact) -> Artifact:
    """A detector that starts as `encoder` and sees boxes of base classes alone."""
    train = config.data.train
    return run(
        stage.STAGE,
        config.transfer,
        clip=encoder,
        images=inputs.images(config, run, train),
        proposals=inputs.proposals(config, run, train),
        boxes=inputs.boxes(config, run, train, config.classes.base),
        embeddings=inputs.class_embeddings(config, run),
    )
