"""Listing a store and showing one artifact."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.inspect import print_artifact, print_artifacts, size_of
from stages.contract import MANIFEST
from stages.storage import Folder

SHA256 = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> str:
    """captions -> concepts -> embeddings, and a report made from all three and from a model that is gone."""
    made = [
        ("captions", "1" * 16, "read_captions", {}),
        ("concepts", "2" * 16, "extract_concepts", {"captions": ("captions", "1" * 16)}),
        ("embeddings", "3" * 16, "embed_concepts", {"concepts": ("concepts", "2" * 16)}),
        (
            "report",
            "34" * 8,
            "evaluate",
            {
                "embeddings": ("embeddings", "3" * 16),
                "pool": ("concepts", "2" * 16),
                "model": ("detector", "9" * 16),
            },
        ),
    ]
    for minute, (kind, key, stage, inputs) in enumerate(made):
        manifest = {
            "stage": stage,
            "version": 2,
            "config": {"threshold": 0.25, "names": ["a", "b"]},
            "inputs": {name: {"kind": given, "key": of} for name, (given, of) in inputs.items()},
            "files": {"table.parquet": {"sha256": SHA256, "bytes": 1_234_567, "rows": 4321}},
            "metrics": {"items": 4321.0},
            "external": {"images": "/data/images"} if kind == "captions" else {},
            "marks": ["untrained"] if kind == "report" else [],
            "git": "c0ffee",
            "ended": f"2026-01-02T03:{minute:02d}:00.000+00:00",
            "seconds": 1.5,
        }
        Folder(str(tmp_path)).child(f"{kind}/{key}").write(MANIFEST, json.dumps(manifest).encode())
    Folder(str(tmp_path)).child("detector/" + "7" * 16).write("half.safetensors", b"unfinished")
    return str(tmp_path)


def printed(show: Callable[[Console], None]) -> str:
    out = io.StringIO()
    show(Console(file=out, width=80))
    return out.getvalue()


def test_list_holds_finished_artifacts_oldest_first(store: str) -> None:
    text = printed(lambda console: print_artifacts(store, console))
    rows = [line.split() for line in text.splitlines() if " 01-02 " in line]
    assert [row[0] for row in rows] == ["captions", "concepts", "embeddings", "report"]
    assert rows[1][1:] == ["2" * 8, "extract_concepts", "01-02", "03:01", "1.2", "MB", "4,321"]
    assert rows[3][-1] == "untrained"
    assert all(len(line) <= 80 for line in text.splitlines())


def test_list_of_an_empty_store_says_so(tmp_path: Path) -> None:
    assert "holds no artifacts" in printed(lambda console: print_artifacts(str(tmp_path / "none"), console))


def test_show_tells_config_files_and_lineage_up_to_the_sources(store: str) -> None:
    text = printed(lambda console: print_artifact(store, "34", console))
    assert "evaluate v2" in text
    assert "threshold: 0.25" in text
    assert SHA256[:12] in text
    tree = text[text.index(f"report {'34' * 8}") :]
    assert f"embeddings {'3' * 16}  (embed_concepts)" in tree
    assert f"pool: concepts {'2' * 16}  (extract_concepts, as above)" in tree
    assert tree.count(f"captions {'1' * 16}") == 1
    assert f"model: detector {'9' * 16}  (no longer in the store)" in tree
    assert "/data/images (pointed to, not held)" in printed(lambda console: print_artifact(store, "11", console))


@pytest.mark.parametrize(("key", "words"), [("f", "no artifact with a key"), ("3", "give more digits")])
def test_show_refuses_a_key_that_is_not_one(store: str, key: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        print_artifact(store, key)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9_960, "10 kB"), (999_600, "1.0 MB"), (5 * 10**12, "5.0 TB")],
)
def test_size_has_a_unit_and_at_most_three_digits(size: int, text: str) -> None:
    assert size_of(size) == text
