"""What the command line calls: a config, a store and a tracker around one pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pipelines import summary
from pipelines.compare import compare
from pipelines.concept_pool import concepts_report
from pipelines.config import PipelineConfig
from pipelines.evaluate import evaluate
from pipelines.labels import label
from pipelines.loading import load
from pipelines.opening import open_tracker
from pipelines.pretrain import pretrain
from pipelines.progress import Display
from pipelines.pseudo_label import pseudo_label
from pipelines.runner import NoTracker, Runner, Tracker
from pipelines.train import train_proposer, train_teacher
from pipelines.transfer import transfer
from regionclip.scenes.dataset import write_scenes
from stages.contract import Artifact
from stages.storage import Folder

PIPELINES: dict[str, Callable[[PipelineConfig, Runner], Artifact]] = {
    "concepts": concepts_report,
    "pseudo-label": pseudo_label,
    "label": label,
    "pretrain": pretrain,
    "transfer": transfer,
    "evaluate": evaluate,
    "all": compare,
    "train-teacher": train_teacher,
    "train-proposer": train_proposer,
}


def execute(
    verb: str,
    source: str,
    overrides: Sequence[str],
    store: str,
    *,
    dry_run: bool = False,
    ray_address: str | None = None,
    tracking_uri: str | None = None,
    console: Console | None = None,
    pipeline: Callable[[PipelineConfig, Runner], Artifact] | None = None,
) -> Artifact:
    """Run the pipeline of a verb, or the given one under its name, and print what came out.

    In a dry run, print what would be done.
    """
    config = load(PipelineConfig, source, overrides)
    console = console or Console()
    folder = Folder(store)
    tracker: Tracker = NoTracker() if dry_run else open_tracker(folder, verb, asdict(config), tracking_uri)
    runner = Runner(
        folder,
        tracker,
        config.resources.stages,
        config.resources.default,
        dry_run=dry_run,
        ray_address=ray_address,
        console=console,
    )
    with runner:
        artifact = (pipeline or PIPELINES[verb])(config, runner)
    if not dry_run:
        summary.print_result(console, artifact, store)
    return artifact


def write_scenes_folder(out: Path, source: str, overrides: Sequence[str]) -> None:
    """Draw the scenes of a config into an empty folder, in COCO layout."""
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; give a new folder")
    config = load(PipelineConfig, source, overrides)
    folder, console = Folder(str(out)), Console()
    display = Display(console)
    display.start("make_scenes")
    try:
        metrics = write_scenes(
            config.data.scenes,
            lambda name, data: folder.write(name, data, durable=False),
            lambda done, total: display.advance(done, total, "scenes"),
        )
    finally:
        display.stop()
    counts = ", ".join(f"{name} {value:g}" for name, value in metrics.items())
    console.print(Text(f"wrote {out} ({counts})"), soft_wrap=True)
