"""A region encoder or detector in, a report on the test split out."""

from __future__ import annotations

from dataclasses import replace

from pipelines import inputs
from pipelines.config import PipelineConfig
from pipelines.runner import Runner
from pipelines.transfer import transfer
from stages import evaluate as stage
from stages.contract import Artifact


def evaluate(config: PipelineConfig, run: Runner) -> Artifact:
    """AP50 of the detector over base, novel and all classes."""
    inputs.read_sources(config, run)
    return detection_report(config, run, transfer(config, run))


def detection_report(config: PipelineConfig, run: Runner, detector: Artifact) -> Artifact:
    """What a detector finds among the proposals of the test images."""
    proposals = inputs.proposals(config, run, config.data.test)
    return _report(config, run, detector, proposals)


def accuracy_report(config: PipelineConfig, run: Runner, encoder: Artifact) -> Artifact:
    """How often a region encoder, before any transfer, names true boxes right."""
    return _report(config, run, encoder, None)


def _report(config: PipelineConfig, run: Runner, model: Artifact, proposals: Artifact | None) -> Artifact:
    test, classes = config.data.test, config.classes
    return run(
        stage.STAGE,
        replace(config.evaluate, base=classes.base, novel=classes.novel),
        model=model,
        images=inputs.images(config, run, test),
        boxes=inputs.boxes(config, run, test, classes.base + classes.novel),
        embeddings=inputs.class_embeddings(config, run),
        proposals=proposals,
    )
