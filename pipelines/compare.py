"""Every recipe from one student start to its detector, side by side."""

from __future__ import annotations

from pipelines import inputs
from pipelines.concept_pool import concept_pool
from pipelines.config import PipelineConfig
from pipelines.evaluate import accuracy_report, detection_report
from pipelines.pretrain import pretrain
from pipelines.pseudo_label import pseudo_label
from pipelines.runner import Runner
from pipelines.transfer import to_detector
from stages import compare_recipes
from stages.contract import Artifact


def compare(config: PipelineConfig, run: Runner) -> Artifact:
    """The page and the numbers of all recipes; the first recipe is what the others are measured against."""
    if not config.recipes:
        raise ValueError("the config names no recipes to compare; add 'recipes', or run 'evaluate' for a single one")
    inputs.read_sources(config, run)
    reports: dict[str, Artifact] = {}
    for index, recipe in enumerate(config.recipes):
        own = config.with_recipe(recipe)
        encoder = pretrain(own, run) if recipe.pretrain else inputs.student_start(own, run)
        reports[f"accuracy_{index}"] = accuracy_report(own, run, encoder)
        reports[f"detection_{index}"] = detection_report(own, run, to_detector(own, run, encoder))
        if recipe.uses_labels:
            reports[f"labels_{index}"] = pseudo_label(own, run)
    names = tuple(recipe.name for recipe in config.recipes)
    controls = [index for index, recipe in enumerate(config.recipes) if recipe.pretrain and not recipe.uses_labels]
    page = compare_recipes.CompareConfig(
        names=names,
        notes=tuple(recipe.note for recipe in config.recipes),
        control=controls[0] if controls else None,
        title=config.title,
    )
    test = config.data.test
    return run(
        compare_recipes.stage_for(names),
        page,
        **reports,
        concepts=concept_pool(config, run),
        images=inputs.images(config, run, test),
        boxes=inputs.boxes(config, run, test, config.classes.base + config.classes.novel),
        train_images=inputs.images(config, run, config.data.train),
    )
