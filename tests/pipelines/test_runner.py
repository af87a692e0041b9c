from __future__ import annotations

import io
import json
import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.lock import HeldError
from pipelines.runner import Runner, Status
from pipelines.store import find_artifact, lineage, list_artifacts
from stages.contract import MANIFEST, WORK, Artifact, Context, Resources, Result, Stage
from stages.storage import Folder


@dataclass(frozen=True)
class TextConfig:
    text: str = "a b"
    place: str = "here"


@dataclass(frozen=True)
class CountConfig:
    factor: int = 1
    failure: str | None = None


def read_text(context: Context, config: TextConfig) -> Result:
    context.folder.write("text.txt", config.text.encode())
    return Result(external={"text": f"/{config.place}"}, marks=("untrained",) if config.text == "raw" else ())


def count_words(context: Context, config: CountConfig, text: Artifact) -> Result:
    context.log({"loss": 1.0}, step=1)
    context.folder.child(WORK).write("scratch", b"")
    context.folder.write("before.txt", b"")
    if FAILURES:
        raise FAILURES.pop()
    words = len(text.folder.read("text.txt").split()) * config.factor
    left = [name for name in context.folder.names() if name.startswith("left")]
    context.folder.write("count.json", json.dumps([words, left]).encode())
    return Result(metrics={"words": words})


FAILURES: list[BaseException] = []
READ = Stage("read_text", 1, {}, "text", read_text, identity=lambda config: {"text": config.text})
COUNT = Stage("count_words", 1, {"text": ("text",)}, "count", count_words)


@dataclass
class Notes:
    """A tracker that keeps what it is told."""

    lines: list[Any] = field(default_factory=list)

    def begin(self, stage: Stage, artifact: Artifact, config: Mapping[str, Any], inputs: Any) -> Notes:
        self.lines.append(("begin", stage.name, sorted(inputs)))
        return self

    def reuse(self, stage: Stage, artifact: Artifact, manifest: Mapping[str, Any]) -> None:
        self.lines.append(("reuse", stage.name))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.lines.append(("log", dict(metrics), step))

    def end(self, status: Status, manifest: Mapping[str, Any] | None) -> None:
        self.lines.append(("end", status, manifest is not None))

    def close(self, status: Status) -> None:
        self.lines.append(("close", status))


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "store"))


def count(
    store: Folder, text: TextConfig | None = None, stage: Stage = COUNT, factor: int = 1, **options: Any
) -> Artifact:
    with Runner(store, console=Console(file=io.StringIO()), **options) as run:
        return run(stage, CountConfig(factor), text=run(READ, text or TextConfig()))


def snapshot(store: Folder) -> dict[str, tuple[int, int]]:
    files = (path for path in Path(store.uri).rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def test_the_files_of_a_source_are_hashed_once_a_run(store: Folder) -> None:
    asked = []

    def identity(config: TextConfig) -> Mapping[str, Any]:
        asked.append(config.text)
        return {"text": config.text}

    read = replace(READ, identity=identity)
    with Runner(store, console=Console(file=io.StringIO())) as run:
        made = [run(read, TextConfig(text)) for text in ("a", "b", "a", "a")]
    assert asked == ["a", "b"]
    assert made[0] == made[2] == made[3] != made[1]


def test_the_manifest_says_what_was_made_from_what(store: Folder) -> None:
    artifact = count(store, factor=3)
    manifest = artifact.manifest
    assert manifest["config"] == {"factor": 3, "failure": None}
    (text,) = (other for other in list_artifacts(store) if other != artifact)
    assert manifest["inputs"] == {"text": {"kind": "text", "key": text.key}}
    assert manifest["files"]["before.txt"] == {
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "bytes": 0,
    }
    assert sorted(manifest["files"]) == ["before.txt", "count.json"]
    assert manifest["metrics"] == {"words": 6.0}
    assert artifact.folder.names() == ["before.txt", "count.json", "manifest.json"]


def test_a_second_run_writes_nothing_whatever_the_resources(store: Folder) -> None:
    first = count(store)
    before = snapshot(store)
    notes = Notes()
    fast = {"count_words": Resources(num_workers=7, batch_size=99)}
    assert count(store, resources=fast, default=Resources(num_cpus=5), tracker=notes) == first
    assert snapshot(store) == before
    assert notes.lines == [("reuse", "read_text"), ("reuse", "count_words"), ("close", "finished")]


def test_a_changed_config_runs_that_stage_and_none_before(store: Folder) -> None:
    count(store)
    notes = Notes()
    count(store, factor=2, tracker=notes)
    assert [line[:2] for line in notes.lines if line[0] in {"begin", "reuse"}] == [
        ("reuse", "read_text"),
        ("begin", "count_words"),
    ]


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "killed"), (ValueError("no"), "failed")])
def test_a_run_that_breaks_off_leaves_nothing_for_readers(store: Folder, error: BaseException, status: str) -> None:
    FAILURES.append(error)
    notes = Notes()
    with pytest.raises(type(error)):
        count(store, tracker=notes)
    assert [artifact.kind for artifact in list_artifacts(store)] == ["text"]
    assert notes.lines[-2:] == [("end", status, False), ("close", status)]
    assert json.loads(count(store).folder.read("count.json")) == [2, []]


@pytest.mark.parametrize(("resumable", "left"), [(True, ["left.txt"]), (False, [])])
def test_only_a_resumable_stage_finds_the_files_of_an_interrupted_run(
    store: Folder, resumable: bool, left: list[str]
) -> None:
    stage = replace(COUNT, resumable=resumable)
    planned = count(store, stage=stage, dry_run=True)
    planned.folder.write("left.txt", b"")
    assert json.loads(count(store, stage=stage).folder.read("count.json"))[1] == left


def test_the_manifest_is_written_after_every_other_file(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = Folder.write

    def note(self: Folder, name: str, data: bytes, durable: bool = True) -> None:
        written.append(self.path(name))
        write(self, name, data, durable)

    monkeypatch.setattr(Folder, "write", note)
    artifact = count(store)
    ours = [path for path in written if path.startswith(artifact.folder.uri)]
    assert ours[-1] == artifact.folder.path(MANIFEST)
    assert ours.count(ours[-1]) == 1


def test_marks_pass_to_everything_made_from_a_marked_artifact(store: Folder) -> None:
    assert count(store, TextConfig("raw")).manifest["marks"] == ["untrained"]
    assert count(store).manifest["marks"] == []


def test_a_source_that_moved_is_read_again_under_its_key(store: Folder) -> None:
    count(store)
    notes = Notes()
    artifact = count(store, TextConfig(place="there"), tracker=notes)
    assert ("begin", "read_text", []) in notes.lines
    assert ("reuse", "count_words") in notes.lines
    (source,) = (node.artifact for node in lineage(store, artifact).inputs.values())
    assert source.manifest["external"] == {"text": "/there"}


def test_a_dry_run_writes_nothing_and_knows_every_key(store: Folder) -> None:
    screen = Console(file=io.StringIO(), width=100)
    with Runner(store, console=screen, dry_run=True) as run:
        planned = run(COUNT, CountConfig(), text=run(READ, TextConfig()))
        assert [step.action for step in run.plan] == ["run", "run"]
    assert not os.path.exists(store.uri)
    assert planned == count(store)
    assert planned.key in screen.file.getvalue()  # type: ignore[attr-defined]
    with Runner(store, console=screen, dry_run=True) as run:
        run(COUNT, CountConfig(2), text=run(READ, TextConfig()))
        assert [(step.stage, step.action) for step in run.plan] == [("read_text", "reuse"), ("count_words", "run")]


def test_one_line_is_shown_for_each_stage_once(store: Folder) -> None:
    screen = io.StringIO()
    with Runner(store, console=Console(file=screen)) as run:
        text = run(READ, TextConfig("raw"))
        run(COUNT, CountConfig(), text=run(READ, TextConfig("raw")))
    first, second = screen.getvalue().splitlines()
    assert first.split() == ["read_text", text.key[:8], *first.split()[2:4], "[untrained]"]
    assert second.startswith("count_words")


def write_lock(store: Folder, **changes: Any) -> str:
    artifact = count(store, dry_run=True)
    stat = Path("/proc/self/stat")
    started = stat.read_text().rpartition(")")[2].split()[19] if stat.exists() else None
    owner = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": started,
        "token": "t",
        "since": "noon",
        "beat": 0,
    }
    name = f".locks/count-{artifact.key}.json"
    store.write(name, json.dumps({**owner, **changes}).encode())
    return name


def test_an_artifact_that_a_living_process_makes_is_left_to_it(store: Folder) -> None:
    name = write_lock(store)
    with pytest.raises(HeldError, match=rf"is being made by process {os.getpid()} on .* since noon; wait for it"):
        count(store)
    store.delete(name)
    count(store)
    assert not store.exists(name)


@pytest.mark.parametrize("dead", [{"pid": 2**22 + 1}, {"started": "1"}, {"host": "another machine"}])
def test_the_lock_of_a_dead_owner_is_taken_over(store: Folder, dead: dict[str, Any]) -> None:
    name = write_lock(store, **dead)
    count(store)
    assert not store.exists(name)


def test_the_heartbeat_of_another_machine_is_respected(store: Folder) -> None:
    write_lock(store, host="another machine", beat=4e9)
    with pytest.raises(HeldError, match="on another machine"):
        count(store)


def test_whoever_lost_the_lock_does_not_commit(store: Folder) -> None:
    def lose(context: Context, config: CountConfig, text: Artifact) -> Result:
        write_lock(store, token="another")
        return Result()

    with pytest.raises(HeldError, match="taken over by another process"):
        count(store, stage=replace(COUNT, run=lose))
    assert [artifact.kind for artifact in list_artifacts(store)] == ["text"]


def test_a_store_need_not_be_a_disk() -> None:
    store = Folder(f"memory://{uuid.uuid4().hex}")
    artifact = count(store)
    notes = Notes()
    assert count(store, tracker=notes) == artifact
    assert notes.lines[0] == ("reuse", "read_text")
    assert len(list_artifacts(store)) == 2


def test_an_artifact_is_found_by_the_first_digits_of_its_key(store: Folder) -> None:
    artifact = count(store)
    assert find_artifact(store, artifact.key[:12]) == artifact
    with pytest.raises(ValueError, match="no artifact with a key that begins with 'xyz'; 'rgc ls' lists the keys"):
        find_artifact(store, "xyz")
    with pytest.raises(ValueError, match=r"begins 2 keys: .*; give more digits"):
        find_artifact(store, "")


def test_lineage_goes_up_to_the_sources_and_shows_what_was_removed(store: Folder) -> None:
    tree = lineage(store, count(store))
    (source,) = tree.inputs.values()
    assert (source.artifact.kind, source.inputs) == ("text", {})
    assert source.manifest is not None
    source.artifact.folder.clear()
    assert lineage(store, tree.artifact).inputs["text"].manifest is None
