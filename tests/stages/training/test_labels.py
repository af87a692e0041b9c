from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pyarrow.compute as pc
import pytest
import torch
from torch.nn import functional

from regionclip.embeddings import save_embeddings
from stages import label_regions
from stages.contract import Artifact
from stages.label_regions import LabelsConfig, label
from stages.parts import read_table
from stages.storage import Folder

EYE = torch.eye(4)
FEATURES = functional.normalize(torch.tensor([[9.0, 3.0, 1.0, 0.0], [1.0, 2.0, 3.0, 9.0], [1.0, 1.0, 1.0, 1.0]]))


def files(folder: Folder) -> dict[str, bytes]:
    return {name: folder.read(name) for name in folder.names()}


def test_labels_are_the_likeliest_concepts_with_their_probabilities() -> None:
    labels = label(FEATURES, EYE, LabelsConfig(temperature=0.5, threshold=0.5, top_k=2), [])
    expected = (FEATURES / 0.5).softmax(dim=1)
    assert labels.concept_ids[:2].tolist() == [[0, 1], [3, 2]]
    torch.testing.assert_close(labels.log_probabilities.exp(), expected.topk(2).values)
    assert labels.keep.tolist() == (expected.max(dim=1).values > 0.5).tolist() == [True, True, False]


def test_captions_exclude_the_other_concepts() -> None:
    config = LabelsConfig(temperature=0.5, threshold=0.5, top_k=4, candidates="captions")
    labels = label(FEATURES, EYE, config, [1, 2])
    assert set(labels.concept_ids[:, 0].tolist()) <= {1, 2}
    assert labels.log_probabilities[:, 2:].exp().max() == 0
    torch.testing.assert_close(labels.log_probabilities[:, :2].exp().sum(dim=1), torch.ones(3))


def test_captions_that_name_no_concept_keep_no_region() -> None:
    config = LabelsConfig(temperature=0.5, threshold=0.1, candidates="captions")
    labels = label(FEATURES, EYE, config, [])
    assert not labels.keep.any()
    assert labels.concept_ids[:2, 0].tolist() == [0, 3]


def test_a_weight_multiplies_the_odds_of_named_concepts() -> None:
    config = LabelsConfig(temperature=0.5, candidates="weighted", caption_weight=3.0, top_k=4)
    plain = label(FEATURES, EYE, replace(config, candidates="pool"), [2])
    weighted = label(FEATURES, EYE, config, [2])

    def odds(labels: label_regions.Labels) -> torch.Tensor:
        share = torch.zeros(3, 4).scatter(1, labels.concept_ids, labels.log_probabilities.exp())[:, 2]
        return share / (1 - share)

    torch.testing.assert_close(odds(weighted), 3 * odds(plain))


def test_the_pool_may_veto_a_label_that_captions_force() -> None:
    config = LabelsConfig(temperature=0.5, threshold=0.5, candidates="captions", pool_threshold=0.2)
    labels = label(FEATURES, EYE, config, [3])
    assert labels.log_probabilities[:, 0].exp().tolist() == [1.0, 1.0, 1.0]
    assert labels.keep.tolist() == [False, True, True]


@pytest.fixture
def run(world: Any) -> Any:
    def labelled(key: str, **inputs: Any) -> Artifact:
        config = LabelsConfig(temperature=0.1, threshold=0.0, part_size=5, **inputs.pop("config", {}))
        return world.run(
            label_regions.STAGE,
            config,
            key,
            **{"regions": world["regions"], "embeddings": world["embeddings"], **inputs},
        )

    return labelled


def test_labelling_again_gives_the_same_bytes(world: Any, run: Any) -> None:
    assert files(run("again").folder) | {"manifest.json": b""} == files(world["labels"].folder) | {"manifest.json": b""}


def test_labels_follow_the_parts_and_boxes_of_the_regions(world: Any) -> None:
    regions, labels = read_table(world["regions"], "regions"), read_table(world["labels"], "region_labels")
    for column in ("image_id", "width", "height", "boxes", "objectness"):
        assert labels[column].to_pylist() == regions[column].to_pylist()
    probabilities = pc.exp(pc.list_flatten(pc.list_flatten(labels["log_probabilities"]))).to_numpy()
    assert probabilities.reshape(-1, 4).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_labelling_opens_no_image(world: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr("PIL.Image.open", refuse)
    run("blind", config={"candidates": "captions"}, captions=world["train_captions"])


def test_caption_guided_labels_name_only_what_the_image_s_captions_name(world: Any, run: Any) -> None:
    artifact = run("guided", config={"candidates": "captions"}, captions=world["train_captions"])
    said: dict[int, str] = {}
    for row in read_table(world["train_captions"], "captions").to_pylist():
        said[row["image_id"]] = said.get(row["image_id"], "") + row["caption"]
    concepts = ("cat", "cup", "kite", "anchor")
    for row in read_table(artifact, "region_labels").to_pylist():
        for ids, values in zip(row["concept_ids"], row["log_probabilities"], strict=True):
            possible = {concepts[index] for index, value in zip(ids, values, strict=True) if value > -math.inf}
            assert possible == {concept for concept in concepts if concept in said[row["image_id"]]}


def test_captions_are_asked_for_where_labels_need_them(run: Any) -> None:
    with pytest.raises(ValueError, match="'captions' needs captions of the images"):
        run("uncaptioned", config={"candidates": "captions"})


def test_a_pool_of_another_width_is_refused(world: Any, run: Any) -> None:
    other = world.artifact("embeddings", "narrow")
    save_embeddings(other.folder.local(), ["cat"], torch.ones(1, 16))
    with pytest.raises(ValueError, match="embedding width 16 differs from the region encoder's width 32"):
        run("narrow", embeddings=other)
