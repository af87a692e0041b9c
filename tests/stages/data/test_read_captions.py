"""Reading captions as a stage: parts and keys, what stops it, and the same bytes however it is run."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest

from regionclip.captions import reading
from stages import read_captions
from stages.contract import Artifact, Resources
from stages.local_context import LocalContext
from stages.parts import read_table
from stages.read_captions import CaptionsConfig
from stages.rows import row_group_refs
from stages.storage import Folder

Run = Callable[..., Artifact]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with captions in three forms."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "web.tsv").write_text("a dog\thttp://a\nbroken\na cat\thttp://b\n")
    images = [{"id": 1, "split": "train"}, {"id": 2, "split": "val"}]
    annotations = [{"id": image, "image_id": image, "caption": f"caption {image}"} for image in (1, 2)]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (folder / "lines.txt").write_text("".join(f"line {row}\n" for row in range(7)))
    return folder


FILES = ("web.tsv", "captions.json", "lines.txt")


def config_of(folder: Path, *files: str, **changes: Any) -> CaptionsConfig:
    return CaptionsConfig(**{"root": str(folder), "files": files or FILES, "max_rejected_fraction": 0.1, **changes})


def contents(folder: Folder) -> dict[str, bytes]:
    return {name: folder.read(name) for name in folder.names()}


def test_files_follow_each_other_a_part_each(root: Path, run_stage: Run) -> None:
    captions = run_stage(read_captions.STAGE, config_of(root))
    table = read_table(captions, "captions")
    assert table["caption"].to_pylist()[:4] == ["a dog", "a cat", "caption 1", "caption 2"]
    assert table["image_id"].to_pylist()[:4] == [None, None, 1, 2]
    assert [ref.num_rows for ref in row_group_refs(captions, "captions")] == [2, 2, 7]
    assert read_table(captions, "rejected").to_pylist() == [
        {"item": "web.tsv:2", "reason": "1 tab-separated fields instead of 2"}
    ]
    assert captions.manifest["metrics"] == {"captions": 11, "rejected": 1, "not_downloaded": 0}


def test_too_many_rejected_of_all_rows_stop_it_and_are_kept(root: Path, run_stage: Run) -> None:
    config = config_of(root, max_rejected_fraction=0.08)
    message = r"1 of 12 rows are rejected, more than max_rejected_fraction=0\.08 allows; first: web\.tsv:2: 1 tab"
    with pytest.raises(ValueError, match=message):
        run_stage(read_captions.STAGE, config)
    (root / "lines.txt").write_text("line\n" * 8)
    run_stage(read_captions.STAGE, config)


def test_row_groups_are_of_fixed_size_and_progress_is_told_by_rows(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = reading.caption_pieces
    monkeypatch.setattr(read_captions, "caption_pieces", lambda file, config: pieces(file, config, 3))
    context = LocalContext(Folder(str(tmp_path / "out")))
    read_captions.read_captions(context, config_of(root, "lines.txt"))
    assert [ref.num_rows for ref in row_group_refs(context.folder, "captions")] == [3, 3, 1]
    units = ["items", *(f"items, {rows} rows" for rows in (3, 6, 7)), "items"]
    assert context.progress == [(done, 1, unit) for done, unit in zip((0, 0, 0, 0, 1), units, strict=True)]


def test_the_key_is_of_the_bytes_and_of_what_changes_rows(root: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(root, tmp_path / "moved" / "deep"))
    (moved / "web.tsv").rename(moved / "renamed.tsv")

    def key(config: CaptionsConfig) -> str:
        return read_captions.STAGE.key(config, {})

    config = config_of(root)
    assert key(config) == key(config_of(moved, "renamed.tsv", *FILES[1:]))
    assert key(config) == key(replace(config, max_rejected_fraction=0.5))
    assert key(config) == key(replace(config, root="", files=tuple(f"{root}/{name}" for name in FILES)))
    others = [
        config_of(root, *FILES[::-1]),
        config_of(root, "web.tsv", "captions.json"),
        replace(config, column="title"),
        replace(config, max_words=5),
        config_of(root, "lines.txt", format="jsonl"),
        config_of(root, "lines.txt"),
        config_of(root, "captions.json"),
        config_of(root, "captions.json", split="val"),
    ]
    assert len({key(config), *map(key, others)}) == 1 + len(others)
    (moved / "lines.txt").write_text("other\n")
    assert key(config) != key(config_of(moved, "renamed.tsv", *FILES[1:]))


def test_captions_come_from_a_store_that_is_not_a_disk(root: Path, run_stage: Run) -> None:
    where = f"memory://{uuid.uuid4().hex}"
    for name in FILES:
        with fsspec.open(f"{where}/{name}", "wb") as file:
            file.write((root / name).read_bytes())
    here = run_stage(read_captions.STAGE, config_of(root))
    for config in (
        config_of(root, root=where),
        config_of(root, root="", files=tuple(f"{where}/{name}" for name in FILES)),
    ):
        assert read_captions.STAGE.key(config, {}) == here.key
        context = LocalContext(Folder(f"memory://{uuid.uuid4().hex}"))
        read_captions.read_captions(context, config)
        made = contents(context.folder)
        assert made.items() <= contents(here.folder).items()
        assert len(made) == 7  # a table and a record of each file, and one rejected table


def test_a_restart_reads_only_the_files_that_are_missing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, read = LocalContext(Folder(str(tmp_path / "out"))), list[str]()
    read_captions.read_captions(context, config_of(root))
    whole = contents(context.folder)
    context.folder.delete("captions-00001.parquet")
    pieces = reading.caption_pieces

    def noted(file: Any, config: Any) -> Any:
        read.append(file.name)
        return pieces(file, config)

    monkeypatch.setattr(read_captions, "caption_pieces", noted)
    read_captions.read_captions(context, config_of(root))
    assert read == ["captions.json"]
    assert contents(context.folder) == whole


def test_an_error_in_the_middle_of_a_file_leaves_no_part_of_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = reading.caption_pieces
    monkeypatch.setattr(read_captions, "caption_pieces", lambda file, config: pieces(file, config, 1))
    data = json.loads((root / "captions.json").read_text())
    data["annotations"] = [{"id": number, "image_id": 1} for number in range(5)]
    (root / "captions.json").write_text(json.dumps(data))
    folder = Folder(str(tmp_path / "out"))
    with pytest.raises(ValueError, match="no annotation has a 'caption'"):
        read_captions.read_captions(LocalContext(folder), config_of(root, "lines.txt", "captions.json"))
    assert sorted(path.name for path in Path(folder.uri).rglob("*.*")) == ["00000.json", "captions-00000.parquet"]


def test_actors_give_the_bytes_of_one_process(root: Path, tmp_path: Path, ray_session: Any) -> None:
    here, there = (
        LocalContext(Folder(str(tmp_path / name)), Resources(num_workers=num_workers))
        for name, num_workers in (("here", 0), ("there", 2))
    )
    for context in (here, there):
        read_captions.read_captions(context, config_of(root))
    assert contents(here.folder) == contents(there.folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": ()}, "files is empty"),
        ({"files": ("lines.txt", "none.txt")}, r"none\.txt: no such file"),
        ({"files": ("../data/lines.txt",)}, "does not name a file inside"),
        ({"format": "word"}, "format is 'word'"),
        ({"files": ("lines.txt",), "split": "val"}, "a text file has no splits"),
        ({"files": ("empty.txt",)}, r"empty\.txt: no caption in 1 files"),
        ({"root": None}, "give one of the two"),
    ],
)
def test_captions_that_cannot_be_read_are_refused_and_nothing_is_made_of_them(
    root: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (root / "empty.txt").touch()
    context = LocalContext(Folder(str(tmp_path / "out")))
    with pytest.raises(ValueError, match=message):
        read_captions.read_captions(context, config_of(root, **changes))
    assert "empty" in message or not context.folder.exists("parts")


def test_a_table_of_all_rows_is_what_pyarrow_reads(root: Path, run_stage: Run) -> None:
    captions = run_stage(read_captions.STAGE, config_of(root, "lines.txt"))
    table = pq.read_table(captions.folder.path("captions-00000.parquet"))
    assert table["caption"].to_pylist() == [f"line {row}" for row in range(7)]
