"""The models that a pipeline starts from, trained by themselves."""

from __future__ import annotations

from dataclasses import replace

from pipelines import inputs
from pipelines.config import PipelineConfig
from pipelines.runner import Runner
from stages.contract import Artifact


def train_teacher(config: PipelineConfig, run: Runner) -> Artifact:
    """The teacher and, where it has a training of its own, the student's start; returns the teacher."""
    from_scratch = replace(config, from_scratch=True)
    inputs.student_start(from_scratch, run)
    return inputs.teacher(from_scratch, run)


def train_proposer(config: PipelineConfig, run: Runner) -> Artifact:
    """The localiser, trained on base boxes alone."""
    return inputs.proposer(replace(config, from_scratch=True), run)
