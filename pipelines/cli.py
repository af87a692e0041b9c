"""The command line `rgc`: parsing and exit codes only; the work is imported when a command runs."""

from __future__ import annotations

import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypedDict

import typer

from pipelines.lock import HeldError
from regionclip.place_errors import PlaceError

EXIT_FAILED, EXIT_USER = 1, 2
TYPER_INTERRUPTED = 130  # what typer makes of Ctrl-C
DEFAULT_STORE = ".rgc/store"

app = typer.Typer(
    name="rgc",
    help="Region-level CLIP pretraining as a data pipeline: captions and images in, an open-vocabulary detector out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
run_app = typer.Typer(no_args_is_help=True, help="Run a pipeline; whatever is already made is reused.")
data_app = typer.Typer(no_args_is_help=True, help="Make data sets.")
app.add_typer(run_app, name="run")
app.add_typer(data_app, name="data")
concepts_app = typer.Typer(no_args_is_help=True, help="Compare concept pools, write them to files and take them in.")
app.add_typer(concepts_app, name="concepts")
labels_app = typer.Typer(no_args_is_help=True, help="Judge region labels, write them out and take corrections in.")
app.add_typer(labels_app, name="labels")
proposals_app = typer.Typer(no_args_is_help=True, help="Judge the boxes that a localiser proposes.")
app.add_typer(proposals_app, name="proposals")

Config = Annotated[str, typer.Option("--config", help="A YAML file, or the name of a preset in conf/.")]
Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override one config value; repeatable.")]
Store = Annotated[str, typer.Option("--store", help="Folder or fsspec URI that holds the artifacts.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print every stage and key, and whether it would run.")]
RayAddress = Annotated[str | None, typer.Option("--ray-address", help="A running Ray cluster; default: a local one.")]
TrackingUri = Annotated[str | None, typer.Option("--tracking-uri", help="MLflow server; default: SQLite by the store.")]


class Options(TypedDict):
    """What the commands hand on that run a pipeline."""

    dry_run: bool
    ray_address: str | None
    tracking_uri: str | None


class Candidates(StrEnum):
    """What `labels.candidates` may be, in the form that a repeatable option takes."""

    POOL = "pool"
    CAPTIONS = "captions"
    WEIGHTED = "weighted"


VERBS = {
    "concepts": "Make the concept pool of captions, and the page about it.",
    "pseudo-label": "Name the regions of images with concepts of captions.",
    "label": "Label the regions in the store anew; opens no image.",
    "pretrain": "Pretrain the student on region labels.",
    "transfer": "Make the student a detector, on base boxes only.",
    "evaluate": "Evaluate the detector on base, novel and all classes.",
    "all": "Run every recipe and write the page that compares them.",
    "train-teacher": "Train the plain CLIP teacher on images and captions.",
    "train-proposer": "Train the class-agnostic localiser on base boxes.",
}


def _add_run_verb(verb: str, summary: str) -> None:
    @run_app.command(verb, help=summary)
    def command(
        config: Config = "demo",
        set_: Sets = [],  # noqa: B006  typer reads the default, nobody writes it
        store: Store = DEFAULT_STORE,
        dry_run: DryRun = False,
        ray_address: RayAddress = None,
        tracking_uri: TrackingUri = None,
    ) -> None:
        from pipelines.execute import execute

        execute(verb, config, set_, store, dry_run=dry_run, ray_address=ray_address, tracking_uri=tracking_uri)


for _verb, _summary in VERBS.items():
    if _verb != "label":
        _add_run_verb(_verb, _summary)


@run_app.command("label", help=VERBS["label"])
def label(
    config: Config = "demo",
    set_: Sets = [],  # noqa: B006
    regions: Annotated[
        str | None, typer.Option(help="The key of the regions to label; default: the newest of the config.")
    ] = None,
    store: Store = DEFAULT_STORE,
    dry_run: DryRun = False,
    ray_address: RayAddress = None,
    tracking_uri: TrackingUri = None,
) -> None:
    from functools import partial

    from pipelines.execute import execute
    from pipelines.labels import label

    options = Options(dry_run=dry_run, ray_address=ray_address, tracking_uri=tracking_uri)
    execute("label", config, set_, store, **options, pipeline=partial(label, regions=regions))


@data_app.command("scenes")
def scenes(
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it must be empty or absent.")],
    config: Config = "demo",
    set_: Sets = [],  # noqa: B006
) -> None:
    """Draw the pictogram scenes and write them in COCO layout."""
    from pipelines.execute import write_scenes_folder

    write_scenes_folder(out, config, set_)


@concepts_app.command("diff")
def concepts_diff(
    before: Annotated[str, typer.Argument(help="A key of concepts, or a .txt or .parquet file.")],
    after: Annotated[str, typer.Argument(help="The same, of the pool to compare with.")],
    store: Store = DEFAULT_STORE,
    limit: Annotated[int, typer.Option(help="Rows of each kind to show.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print everything, as JSON.")] = False,
) -> None:
    """Show which concepts were added, removed or counted otherwise."""
    from pipelines.concepts import diff

    diff(before, after, store, limit, json)


@concepts_app.command("export")
def concepts_export(
    key: Annotated[str, typer.Argument(help="The key of concepts or embeddings, or its first digits.")],
    path: Annotated[str, typer.Argument(help=".txt, .csv, .json or .parquet; of embeddings .pth, .safetensors, .txt.")],
    store: Store = DEFAULT_STORE,
) -> None:
    """Write concepts or embeddings to a file of the form that its ending names."""
    from pipelines.concepts import export

    export(key, path, store)


@concepts_app.command("import")
def concepts_import(
    path: Annotated[str, typer.Argument(help="Names, one a line (.txt), or embeddings (.pth, .pt).")],
    concepts: Annotated[str | None, typer.Option("--concepts", help="Names of the embeddings (.txt).")] = None,
    store: Store = DEFAULT_STORE,
    tracking_uri: TrackingUri = None,
) -> None:
    """Take names, or embeddings with their names, into the store."""
    from pipelines.concepts import import_

    import_(path, store, concepts, tracking_uri)


@labels_app.command("export")
def labels_export(
    key: Annotated[str, typer.Argument(help="The key of region_labels, or its first digits.")],
    path: Annotated[str, typer.Argument(help=".json (COCO), .jsonl (ODVG) or a folder (YOLO).")],
    everything: Annotated[bool, typer.Option("--all", help="Also regions that are not kept.")] = False,
    min_score: Annotated[float, typer.Option(help="Least probability of a region's first concept.")] = 0.0,
    store: Store = DEFAULT_STORE,
) -> None:
    """Write region labels as COCO JSON, ODVG lines or a YOLO folder."""
    from pipelines.labels import export

    export(key, path, store, everything, min_score)


@labels_app.command("import")
def labels_import(
    path: Annotated[str, typer.Argument(help="A COCO file from 'rgc labels export', corrected.")],
    labels: Annotated[str, typer.Option("--labels", help="The key of the region_labels that were exported.")],
    absent: Annotated[Literal["drop", "keep"], typer.Option(help="What becomes of regions no longer listed.")] = "drop",
    min_score: Annotated[float, typer.Option(help="The one that was given to the export.")] = 0.0,
    max_rejected_fraction: Annotated[float, typer.Option(help="Annotations that may fit no region.")] = 0.1,
    store: Store = DEFAULT_STORE,
    tracking_uri: TrackingUri = None,
) -> None:
    """Take a corrected export back, over the labels it was made from."""
    from pipelines.labels import import_

    import_(path, labels, store, absent, min_score, max_rejected_fraction, tracking_uri)


@labels_app.command("report")
def labels_report(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys of region_labels; default: the config's.")] = None,
    config: Config = "demo",
    set_: Sets = [],  # noqa: B006
    candidates: Annotated[
        list[Candidates] | None, typer.Option(help="Label with these candidates in turn; repeatable.")
    ] = None,
    truth: Annotated[str | None, typer.Option(help="A COCO file below the data root; default: train.")] = None,
    store: Store = DEFAULT_STORE,
    dry_run: DryRun = False,
    ray_address: RayAddress = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write one page to judge labels by; of several sets the first is looked at, the others are compared with it."""
    from functools import partial

    from pipelines.execute import execute
    from pipelines.label_report import label_report

    page = partial(
        label_report, keys=tuple(keys or ()), candidates=[each.value for each in candidates or ()], truth=truth
    )
    options = Options(dry_run=dry_run, ray_address=ray_address, tracking_uri=tracking_uri)
    execute("labels-report", config, set_, store, **options, pipeline=page)


@proposals_app.command("recall")
def proposals_recall(
    config: Config = "demo",
    set_: Sets = [],  # noqa: B006
    instances: Annotated[str | None, typer.Option(help="A COCO file below the data root; default: test.")] = None,
    store: Store = DEFAULT_STORE,
    dry_run: DryRun = False,
    ray_address: RayAddress = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Show how many annotated objects the best 10, 100, 300 and 1000 boxes of an image cover."""
    from functools import partial

    from pipelines.execute import execute
    from pipelines.proposals import recall

    options = Options(dry_run=dry_run, ray_address=ray_address, tracking_uri=tracking_uri)
    execute("proposals-recall", config, set_, store, **options, pipeline=partial(recall, instances=instances))


@app.command("ls")
def list_command(store: Store = DEFAULT_STORE) -> None:
    """List the artifacts of a store, oldest first."""
    from pipelines.inspect import print_artifacts

    print_artifacts(store)


@app.command("show")
def show(key: Annotated[str, typer.Argument(help="A key, or its first digits.")], store: Store = DEFAULT_STORE) -> None:
    """Show an artifact's manifest, and its lineage up to the sources."""
    from pipelines.inspect import print_artifact

    print_artifact(store, key)


@app.command("ui")
def ui(
    store: Store = DEFAULT_STORE,
    tracking_uri: TrackingUri = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open the MLflow UI on 127.0.0.1."""
    from pipelines.tracking import serve_ui

    serve_ui(store, tracking_uri, port)


def main() -> None:
    """Run the command line; exit 0 fine, 1 the work failed, 2 the user's input."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends as Ctrl-C does
    try:
        app(standalone_mode=True)
    except SystemExit as leaving:
        if leaving.code != TYPER_INTERRUPTED:
            raise
        print("interrupted; nothing finished is lost: give the same command again to go on", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except (ValueError, FileNotFoundError, HeldError, PlaceError) as error:
        if os.environ.get("RGC_DEBUG"):
            raise
        print(f"error: {_line(error)}", file=sys.stderr)
        sys.exit(EXIT_FAILED if isinstance(error, HeldError | PlaceError) else EXIT_USER)
    except Exception as error:
        if os.environ.get("RGC_DEBUG"):
            raise
        print(f"failed: {type(error).__name__}: {_line(error)} (RGC_DEBUG=1 shows the traceback)", file=sys.stderr)
        sys.exit(EXIT_FAILED)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
