"""Embeddings on disk: rows stay tied to their names, their order and their width."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from regionclip.embeddings import check_classes, check_width, load_embeddings, order_sha256, save_embeddings

NAMES = ["cat", "dög", "traffic light"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_embeddings(tmp_path, NAMES, torch.arange(12.0).reshape(3, 4), {"templates": "plain"})
    return tmp_path


def test_names_and_numbers_come_back(saved: Path) -> None:
    names, embeddings = load_embeddings(saved, width=4)
    assert names == NAMES
    assert torch.equal(embeddings, torch.arange(12.0).reshape(3, 4))
    assert json.loads((saved / "concepts.json").read_text())["templates"] == "plain"


def test_the_hash_tells_order_and_borders_of_names() -> None:
    assert len({order_sha256(names) for names in (["a", "b"], ["b", "a"], ["ab"], ["a,b"], ["a", "b", ""])}) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: names[::-1], "not in the order"),
        (lambda names: names[:2], r"shape \[3, 4\] for 2 concepts"),
        (lambda names: [*names[:2], "bus"], "are not those"),
        (lambda names: None, "not readable as concept embeddings"),
    ],
)
def test_changed_names_are_refused(saved: Path, change: object, message: str) -> None:
    about = json.loads((saved / "concepts.json").read_text())
    about["concepts"] = change(about["concepts"])  # type: ignore[operator]
    (saved / "concepts.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=message):
        load_embeddings(saved)


def test_damaged_or_missing_files_are_refused(saved: Path) -> None:
    (saved / "embeddings.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="not readable as concept embeddings"):
        load_embeddings(saved)
    (saved / "embeddings.safetensors").unlink()
    with pytest.raises(ValueError, match=r"embeddings\.safetensors: no such file"):
        load_embeddings(saved)


def test_another_width_is_refused_with_both_numbers(saved: Path) -> None:
    with pytest.raises(ValueError, match="embedding width 4 differs from the region encoder's width 8"):
        load_embeddings(saved, width=8)
    with pytest.raises(ValueError, match="pool: embedding width 4"):
        check_width(torch.zeros(2, 4), 8, "pool")


def test_a_class_list_must_match_in_size_and_order() -> None:
    check_classes(NAMES, NAMES, "classes")
    with pytest.raises(ValueError, match="2 embedded names for 3 classes"):
        check_classes(NAMES[:2], NAMES, "classes")
    with pytest.raises(ValueError, match="row 0 is the embedding of 'dög', the class list has 'cat'"):
        check_classes(["dög", "cat", "traffic light"], NAMES, "classes")
