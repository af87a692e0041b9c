"""Captions in, a concept pool and its report out."""

from __future__ import annotations

from dataclasses import replace

from pipelines import inputs
from pipelines.config import PipelineConfig
from pipelines.runner import Runner
from stages import extract_concepts, parse_captions, read_concepts, report_concepts
from stages.contract import Artifact


def concept_pool(config: PipelineConfig, run: Runner) -> Artifact:
    """The concepts that captions name, or those of a file that is given in their place."""
    if config.concepts_file is not None:
        return run(read_concepts.STAGE, read_concepts.ReadConceptsConfig(config.concepts_file))
    return run(extract_concepts.STAGE, config.concepts, phrases=_phrases(config, run))


def concepts_report(config: PipelineConfig, run: Runner) -> Artifact:
    """The page about the pool: its size, its tail, what was dropped, and which class names it has or lacks."""
    classes = {"base": config.classes.base, "novel": config.classes.novel}
    about = replace(config.concepts_report, groups={**classes, **config.concepts_report.groups})
    phrases = None if config.concepts_file is not None else _phrases(config, run)
    return run(report_concepts.STAGE, about, concepts=concept_pool(config, run), phrases=phrases)


def _phrases(config: PipelineConfig, run: Runner) -> Artifact:
    return run(parse_captions.STAGE, config.parsing, captions=inputs.pool_captions(config, run))
