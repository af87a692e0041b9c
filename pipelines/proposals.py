"""Proposals in, their recall of annotated objects out."""

from __future__ import annotations

from dataclasses import replace

from pipelines import inputs
from pipelines.config import PipelineConfig
from pipelines.runner import Runner
from stages import recall_proposals
from stages.contract import Artifact


def recall(config: PipelineConfig, run: Runner, instances: str | None = None) -> Artifact:
    """How many objects of the test split, of any class, the proposals cover.

    instances: another annotation file of the same data folder, in place of the test split's.
    """
    test = config.data.test if instances is None else replace(config.data.test, instances=instances, split=None)
    truth = inputs.boxes(config, run, test, (), "data.test")
    found = inputs.proposals(config, run, test)
    return run(recall_proposals.STAGE, recall_proposals.RecallConfig(), proposals=found, boxes=truth)
