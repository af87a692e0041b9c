"""Captions to concepts to embeddings, through the stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from regionclip import prompts
from regionclip.clip_models import save_clip
from regionclip.coco import read_coco_captions
from regionclip.embeddings import load_embeddings
from regionclip.schemas import CAPTIONS
from stages import embed_concepts, extract_concepts
from stages.contract import Artifact
from stages.embed_concepts import EmbeddingsConfig
from stages.extract_concepts import ConceptsConfig
from stages.parts import read_table, write_table
from stages.storage import Folder

Run = Callable[..., Artifact]

TEXTS = ["a dog near a traffic light", "two dogs", "", "the cat", "a cat and a dog", "x" * 5000, "a traffic light"]


@pytest.fixture
def captions(tmp_path: Path) -> Artifact:
    folder = Folder(str(tmp_path / "captions"))
    write_table(folder, "captions", pa.table({"image_id": [None] * len(TEXTS), "caption": TEXTS}, schema=CAPTIONS))
    return Artifact("captions", "c", folder)


@pytest.fixture
def clip(tmp_path: Path, tiny_clip: Any) -> Artifact:
    save_clip(tiny_clip, "rgc-test-rn", tmp_path / "clip")
    return Artifact("clip", "t", Folder(str(tmp_path / "clip")))


def test_concepts_are_counted_by_caption_and_unfit_captions_rejected(run_stage: Run, captions: Artifact) -> None:
    config = ConceptsConfig(min_document_frequency=2, max_rejected_fraction=0.5)
    concepts = run_stage(extract_concepts.STAGE, config, captions=captions)
    rows = read_table(concepts, "concepts").to_pylist()
    assert [(row["concept"], row["document_frequency"]) for row in rows] == [
        ("dog", 3),
        ("cat", 2),
        ("traffic light", 2),
    ]
    assert rows[0]["surface_forms"] == ["dog", "dogs"]
    assert read_table(concepts, "rejected")["reason"].to_pylist() == [
        "empty caption",
        "5000 characters, more than 2000",
    ]


def test_the_pool_does_not_depend_on_how_captions_are_parted(run_stage: Run, captions: Artifact) -> None:
    pools = [
        run_stage(extract_concepts.STAGE, ConceptsConfig("rules", (), 1, None, 0.5, size), captions=captions)
        for size in (1, 3, 100)
    ]
    assert len({pool.key for pool in pools}) == 3
    assert len({pool.folder.read("concepts.parquet") for pool in pools}) == 1


def test_too_many_unfit_captions_stop_the_stage(run_stage: Run, captions: Artifact) -> None:
    with pytest.raises(ValueError, match=r"2 of 7 items are rejected.*empty caption"):
        run_stage(extract_concepts.STAGE, ConceptsConfig(max_rejected_fraction=0.1), captions=captions)


def test_a_list_of_names_needs_no_captions(run_stage: Run) -> None:
    concepts = run_stage(extract_concepts.STAGE, ConceptsConfig("list", ("zebra", "ant")))
    assert read_table(concepts, "concepts")["concept"].to_pylist() == ["zebra", "ant"]
    with pytest.raises(ValueError, match="parser 'rules' needs captions"):
        run_stage(extract_concepts.STAGE, ConceptsConfig())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_document_frequency": 0}, "min_document_frequency is 0"),
        ({"max_size": 0}, "max_size is 0"),
        ({"parser": "list"}, "parser 'list' with 0 names"),
        ({"names": ("dog",)}, "parser 'rules' with 1 names"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConceptsConfig(**values)


def test_embeddings_stand_in_the_order_of_the_pool(run_stage: Run, clip: Artifact, tiny_clip: Any) -> None:
    names = ("zebra", "traffic light", "ant")
    concepts = run_stage(extract_concepts.STAGE, ConceptsConfig("list", names))
    embeddings = run_stage(embed_concepts.STAGE, EmbeddingsConfig("plain"), concepts=concepts, clip=clip)
    loaded, numbers = load_embeddings(embeddings.folder.local())
    assert tuple(loaded) == names
    expected = prompts.embed_concepts(tiny_clip, list(names), prompts.TEMPLATES["plain"])
    torch.testing.assert_close(numbers, expected)
    assert embeddings.manifest["metrics"] == {"concepts": 3, "width": numbers.shape[1]}


def test_unknown_templates_are_refused_with_the_known_ones(run_stage: Run, clip: Artifact) -> None:
    concepts = run_stage(extract_concepts.STAGE, ConceptsConfig("list", ("ant",)))
    with pytest.raises(ValueError, match="templates 'method' is no known set of prompts; choose one of method81"):
        run_stage(embed_concepts.STAGE, EmbeddingsConfig("method"), concepts=concepts, clip=clip)


def test_real_captions_give_the_open_vocabulary_class_names(run_stage: Run, shared: Path, tmp_path: Path) -> None:
    texts = read_coco_captions(shared / "data" / "captions" / "coco_captions_val2017.json")
    folder = Folder(str(tmp_path / "real"))
    write_table(folder, "captions", texts.take(list(range(0, texts.num_rows, 5))))
    config = ConceptsConfig(min_document_frequency=10)
    concepts = run_stage(extract_concepts.STAGE, config, captions=Artifact("captions", "r", folder))
    pool = set(read_table(concepts, "concepts")["concept"].to_pylist())
    novel = {"airplane", "bus", "cat", "dog", "cow", "elephant", "umbrella", "tie", "snowboard", "skateboard", "cup"}
    novel |= {"knife", "cake", "couch", "keyboard", "sink", "scissors"}
    assert novel <= pool
    assert not {"photo", "front", "group", "top", "men", "people"} & pool
