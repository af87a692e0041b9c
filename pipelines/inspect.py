"""Looking into a store from the terminal: the list of artifacts, and one of them with its lineage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from pipelines.store import Lineage, find_artifact, lineage, list_artifacts
from pipelines.summary import print_metrics, say
from stages.contract import Artifact
from stages.storage import Folder

ABSENT = "-"
SHOWN_DIGITS = 8


def print_artifacts(store: str, console: Console | None = None) -> None:
    """Print the finished artifacts of a store, oldest first, with the first digits of their keys and times in UTC."""
    console = console or Console()
    artifacts = list_artifacts(Folder(store))
    if not artifacts:
        say(console, "empty", f"{Folder(store).uri} holds no artifacts; 'rgc run all' makes some")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("kind", "key", "stage", "ended"):
        table.add_column(heading, no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("marks", overflow="fold")
    for artifact in artifacts:
        manifest = artifact.manifest
        files = manifest["files"].values()
        table.add_row(
            artifact.kind,
            artifact.key[:SHOWN_DIGITS],
            manifest["stage"],
            _minute(manifest["ended"])[5:],
            size_of(sum(facts["bytes"] for facts in files)),
            _rows(manifest["files"]),
            Text(", ".join(manifest["marks"])),
        )
    console.print(table)


def print_artifact(store: str, key: str, console: Console | None = None) -> None:
    """Print an artifact's manifest, and what it was made from up to the sources.

    Raises ValueError when no key, or more than one, begins with `key`.
    """
    console = console or Console()
    folder = Folder(store)
    artifact = find_artifact(folder, key)
    manifest = artifact.manifest
    say(console, "kind", artifact.kind)
    say(console, "key", artifact.key)
    say(console, "stage", f"{manifest['stage']} v{manifest['version']}")
    say(console, "ended", f"{_minute(manifest['ended'])} UTC, after {manifest['seconds']:,.1f} s")
    say(console, "git", manifest["git"] or ABSENT)
    say(console, "marks", ", ".join(manifest["marks"]) or ABSENT)
    say(console, "folder", artifact.folder.uri)
    for name, uri in manifest["external"].items():
        say(console, name, f"{uri} (pointed to, not held)")
    if manifest["config"]:
        console.print()
        console.print(Text("config"), style="bold")
        console.print(Text(_yaml(manifest["config"])), soft_wrap=True)
    if manifest["metrics"]:
        print_metrics(console, manifest["metrics"])
    _print_files(console, manifest["files"])
    console.print(_tree(lineage(folder, artifact)))


def _print_files(console: Console, files: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("sha256", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    for name, facts in files.items():
        rows = f"{facts['rows']:,}" if "rows" in facts else ""
        table.add_row(Text(name), facts["sha256"][:12], size_of(facts["bytes"]), rows)
    console.print(table)


def _tree(root: Lineage) -> Tree:
    """The lineage; an artifact that several others were made from is opened at its first place only."""
    opened: set[Artifact] = set()

    def line(argument: str, node: Lineage) -> Text:
        made = "no longer in the store" if node.manifest is None else node.manifest["stage"]
        above = ", as above" if node.artifact in opened and node.inputs else ""
        name = "" if argument in ("", node.artifact.kind) else f"{argument}: "
        return Text(f"{name}{node.artifact.kind} {node.artifact.key}  ({made}{above})")

    def grow(tree: Tree, node: Lineage) -> None:
        for argument, given in node.inputs.items():
            branch = tree.add(line(argument, given))
            if given.artifact not in opened:
                opened.add(given.artifact)
                grow(branch, given)

    tree = Tree(line("", root))
    grow(tree, root)
    return tree


def _yaml(config: Mapping[str, Any]) -> str:
    text: str = OmegaConf.to_yaml(OmegaConf.create(dict(config)))
    return "\n".join(f"  {line}" for line in text.splitlines())


def _rows(files: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [facts["rows"] for facts in files.values() if "rows" in facts]
    return f"{sum(rows):,}" if rows else ABSENT


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def size_of(num_bytes: int) -> str:
    """A size with a unit of 1000, at most three digits before the point."""
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 9.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
