"""Pools compared, written to files and taken in again; whatever goes out comes back the same."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from pipelines.concepts import diff, export, import_
from pipelines.runner import NoTracker
from pipelines.store import find_artifact
from regionclip.embeddings import load_embeddings
from stages.contract import Artifact
from stages.parts import read_table
from stages.storage import Folder

OLD, NEW = "dog,9\ncat,7\nbus,5\n", "dog,8\nzebra,6\ncat,7\nant,6\n"


@pytest.fixture(autouse=True)
def untracked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """No MLflow, until the returned function is called."""
    monkeypatch.setattr("pipelines.tracking.MlflowTracker", lambda *arguments: NoTracker())
    return monkeypatch.undo


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def quiet() -> Console:
    return Console(file=io.StringIO(), width=80)


def printed(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def taken_in(folder: Path, store: str, text: str, name: str = "nouns.txt") -> Artifact:
    (folder / name).write_text(text)
    return import_(str(folder / name), store, console=quiet())


def embedded(folder: Path, store: str, numbers: torch.Tensor) -> Artifact:
    (folder / "nouns.txt").write_text(OLD)
    torch.save(numbers, folder / "emb.pth")
    return import_(str(folder / "emb.pth"), store, str(folder / "nouns.txt"), console=quiet())


def test_names_taken_in_are_printed_with_their_key_and_found_again(tmp_path: Path, store: str) -> None:
    (tmp_path / "nouns.txt").write_text(OLD)
    console = quiet()
    artifact = import_(str(tmp_path / "nouns.txt"), store, console=console)
    assert artifact.key in printed(console)
    assert find_artifact(Folder(store), artifact.key[:6]) == artifact
    assert artifact.manifest["stage"] == "read_concepts"
    assert taken_in(tmp_path, store, OLD.replace("\n", "\r\n"), "copy.txt") == artifact


def test_taking_in_is_recorded_in_mlflow(tmp_path: Path, store: str, untracked: Callable[[], None]) -> None:
    from mlflow import MlflowClient

    from pipelines.tracking import default_tracking_uri

    untracked()
    artifact = embedded(tmp_path, store, torch.ones(3, 4))
    client = MlflowClient(default_tracking_uri(Folder(store)))
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    by_name = {run.info.run_name: run for run in runs}
    assert by_name.keys() == {"concepts-import", "read_embeddings"}
    assert by_name["read_embeddings"].data.tags["key"] == artifact.key


@pytest.mark.parametrize("ending", [".txt", ".csv", ".json", ".parquet"])
def test_concepts_are_written_in_every_form_with_names_and_frequencies(tmp_path: Path, store: str, ending: str) -> None:
    artifact = taken_in(tmp_path, store, OLD)
    path = tmp_path / "new folder" / f"out{ending}"
    export(artifact.key[:6], str(path), store, quiet())
    text = path.read_bytes()
    pairs = {
        ".txt": lambda: [tuple(line.split(",")) for line in text.decode().splitlines()],
        ".csv": lambda: [
            (row["concept"], row["document_frequency"]) for row in csv.DictReader(io.StringIO(text.decode()))
        ],
        ".json": lambda: [(row["concept"], str(row["document_frequency"])) for row in json.loads(text)],
        ".parquet": lambda: [
            (row["concept"], str(row["document_frequency"])) for row in pq.read_table(path).to_pylist()
        ],
    }[ending]()
    assert pairs == [("dog", "9"), ("cat", "7"), ("bus", "5")]


def test_the_text_form_comes_back_as_the_same_artifact(tmp_path: Path, store: str) -> None:
    artifact = taken_in(tmp_path, store, NEW)
    export(artifact.key, str(tmp_path / "out.txt"), store, quiet())
    assert import_(str(tmp_path / "out.txt"), store, console=quiet()) == artifact


def test_embeddings_are_written_as_numbers_alone_and_come_back_with_their_names(tmp_path: Path, store: str) -> None:
    numbers = torch.randn(3, 4) * 9
    artifact = embedded(tmp_path, store, numbers)
    for ending in (".pth", ".safetensors", ".txt"):
        export(artifact.key, str(tmp_path / f"out{ending}"), store, quiet())
    assert torch.equal(torch.load(tmp_path / "out.pth", weights_only=True), numbers)
    assert torch.equal(load_file(tmp_path / "out.safetensors")["embeddings"], numbers)
    assert (tmp_path / "out.txt").read_text() == "dog\ncat\nbus\n"
    again = import_(str(tmp_path / "out.pth"), store, str(tmp_path / "out.txt"), console=quiet())
    names, read = load_embeddings(again.folder.local())
    assert names == ["dog", "cat", "bus"]
    assert torch.equal(read, numbers)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("out.pth", r"out\.pth: concepts are not written as '\.pth'; choose \.txt, \.csv, \.json, \.parquet"),
        ("out", "concepts are not written as ''"),
    ],
)
def test_an_unknown_form_is_refused_with_the_known_ones(tmp_path: Path, store: str, path: str, message: str) -> None:
    artifact = taken_in(tmp_path, store, OLD)
    with pytest.raises(ValueError, match=message):
        export(artifact.key, path, store)


def test_only_concepts_and_embeddings_are_written(tmp_path: Path, store: str) -> None:
    Folder(store).child("clip/c0ffee").write("manifest.json", b"{}")
    with pytest.raises(ValueError, match="c0ffee is a clip; give the key of concepts or embeddings"):
        export("c0ffee", "out.txt", store)
    with pytest.raises(ValueError, match="c0ffee is a clip; give the key of concepts"):
        diff("c0ffee", "c0ffee", store)


@pytest.mark.parametrize(
    ("path", "names", "message"),
    [
        ("emb.pth", None, "holds numbers without names; give the list of their names with --concepts"),
        ("nouns.txt", "other.txt", "is a list of names itself"),
        ("nouns.csv", None, r"'\.csv' cannot be imported; give names \(\.txt\) or embeddings \(\.pth or \.pt\)"),
        ("none.txt", None, r"none\.txt cannot be read"),
        ("none.pth", "none.txt", r"none\.pth: no such file"),
    ],
)
def test_what_cannot_be_taken_in_is_refused_before_a_run_is_opened(
    tmp_path: Path, store: str, path: str, names: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.tracking.MlflowTracker", lambda *arguments: pytest.fail("a run was opened"))
    with pytest.raises(ValueError, match=message):
        import_(str(tmp_path / path), store, names)
    assert not Path(store).exists()


def test_a_difference_is_the_same_from_keys_and_files(tmp_path: Path, store: str) -> None:
    old, new = taken_in(tmp_path, store, OLD, "old.txt"), taken_in(tmp_path, store, NEW, "new.txt")
    pq.write_table(read_table(new, "concepts"), tmp_path / "new.parquet")
    after_forms = (new.key, new.key[:5], str(tmp_path / "new.txt"), str(tmp_path / "new.parquet"))
    found = [
        diff(before, after, store, console=quiet())
        for before in (old.key, str(tmp_path / "old.txt"))
        for after in after_forms
    ]
    assert len(set(found)) == 1
    assert [entry.concept for entry in found[0].added] == ["ant", "zebra"]


def test_a_difference_is_printed_short_and_says_how_much_more_there_is(tmp_path: Path, store: str) -> None:
    (tmp_path / "old.txt").write_text(OLD)
    (tmp_path / "new.txt").write_text(NEW)
    console = quiet()
    diff(str(tmp_path / "old.txt"), str(tmp_path / "new.txt"), store, limit=1, console=console)
    lines = [line.split() for line in printed(console).splitlines()]
    assert ["concepts", "3", "before,", "4", "after"] in lines
    assert ["ant", "6"] in lines
    assert ["zebra", "6"] not in lines
    assert ["and", "1", "more"] in lines
    assert ["dog", "9", "8", "-1"] in lines
    assert ["order", "the", "same"] in lines


def test_a_difference_as_json_holds_everything(tmp_path: Path, store: str) -> None:
    (tmp_path / "old.txt").write_text("dög,9\ncat,7\n")
    (tmp_path / "new.txt").write_text("cat\ndög\n")
    console = quiet()
    diff(str(tmp_path / "old.txt"), str(tmp_path / "new.txt"), store, limit=0, as_json=True, console=console)
    found = json.loads(printed(console))
    assert found.keys() == {"concepts_before", "concepts_after", "added", "removed", "changed", "moved"}
    assert found["changed"] is None
    assert found["moved"] == [{"concept": "dög", "before": 1, "after": 2}]


def test_a_negative_number_of_rows_is_refused(store: str) -> None:
    with pytest.raises(ValueError, match="limit -1 is below 0"):
        diff("a", "b", store, limit=-1)


def test_markup_in_a_name_is_only_text(tmp_path: Path, store: str) -> None:
    (tmp_path / "old.txt").write_text("dog\n")
    (tmp_path / "new.txt").write_text("dog\n[red]cat[/red]\n")
    console = quiet()
    diff(str(tmp_path / "old.txt"), str(tmp_path / "new.txt"), store, console=console)
    assert "[red]cat[/red]" in printed(console)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pool.csv", r"'pool\.csv' is neither a key nor a \.txt or \.parquet file"),
        ("", "'' is neither a key"),
        ("abc", "holds no artifact with a key that begins with 'abc'"),
        ("bad.parquet", r"bad\.parquet cannot be read as concepts \(.*it needs the columns concept and document_freq"),
        ("twice.parquet", r"twice\.parquet lists 1 concepts again"),
        ("nulls.parquet", r"nulls\.parquet cannot be read as concepts"),
        ("none.parquet", r"none\.parquet cannot be read as concepts"),
    ],
)
def test_what_is_no_pool_is_refused(
    tmp_path: Path, store: str, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"name": ["dog"]}), "bad.parquet")
    pq.write_table(pa.table({"concept": ["dog", "dog"], "document_frequency": [1, 1]}), "twice.parquet")
    pq.write_table(pa.table({"concept": ["dog"], "document_frequency": pa.nulls(1, pa.int64())}), "nulls.parquet")
    with pytest.raises(ValueError, match=message):
        diff(name, name, store)
