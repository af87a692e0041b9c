"""Embeddings on disk: rows stay tied to their names, their order and their width."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.embeddings import (
    check_classes,
    check_width,
    load_embeddings,
    order_sha256,
    read_bare_embeddings,
    save_embeddings,
    write_bare_embeddings,
)

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


def test_a_bare_file_holds_the_numbers_as_they_are(tmp_path: Path) -> None:
    embeddings = torch.randn(1000, 4)[::400]
    with (tmp_path / "emb.pth").open("wb") as file:
        write_bare_embeddings(file, embeddings)
    assert torch.equal(torch.load(tmp_path / "emb.pth", weights_only=True), embeddings)
    assert torch.equal(read_bare_embeddings(tmp_path / "emb.pth"), embeddings)
    assert (tmp_path / "emb.pth").stat().st_size < 2000  # the rows alone, not the tensor that they are a view of


def test_one_squeezed_row_and_other_floating_point_numbers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "emb.pth"
    for content in (torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 2.0]]).half(), torch.tensor([[1.0, 2.0]]).double()):
        torch.save(content, path)
        read = read_bare_embeddings(path)
        assert read.dtype == torch.float32
        assert read.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"emb": torch.ones(2, 3)}, "holds a dict, not a tensor"),
        ([1.0, 2.0], "holds a list, not a tensor"),
        (torch.ones(2, 3, 4), r"holds float32 \[2, 3, 4\]"),
        (torch.tensor(1.0), r"holds float32 \[\]"),
        (torch.ones(0, 4), r"holds float32 \[0, 4\]"),
        (torch.ones(2, 3).long(), r"holds int64 \[2, 3\]"),
        (torch.eye(3).to_sparse(), r"holds float32 \[3, 3\]"),
        (torch.tensor([[1.0], [float("nan")], [2.0]]), "1 of 3 rows hold NaN or infinity, first is row 1"),
        (torch.tensor([[1e300]]).double() * 1, "1 of 1 rows hold NaN or infinity"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "emb.pth")
    with pytest.raises(ValueError, match=message):
        read_bare_embeddings(tmp_path / "emb.pth")


@settings(max_examples=100, deadline=None)
@given(position=st.integers(0, 1500), value=st.integers(0, 255), length=st.integers(0, 1500))
def test_a_damaged_file_is_read_or_refused_as_such(
    position: int, value: int, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "emb.pth"
    with path.open("wb") as file:
        write_bare_embeddings(file, torch.ones(2, 3))
    content = bytearray(path.read_bytes())
    content[min(position, len(content) - 1)] = value
    path.write_bytes(bytes(content[: max(length, 10)] if length < 500 else content))
    with contextlib.suppress(ValueError):
        assert read_bare_embeddings(path).ndim == 2
