from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional

from regionclip.embeddings import load_embeddings, order_sha256, save_embeddings
from regionclip.grouped import grouped_lists, list_column
from regionclip.matching import match
from regionclip.region_features import pack_features
from regionclip.schemas import CONCEPTS, REGION_LABELS, regions
from stages import label_regions
from stages.contract import MANIFEST, WORK, Artifact
from stages.label_regions import LabelsConfig, label
from stages.parts import iter_tables, read_table, table_files, write_table
from stages.storage import Folder

EYE = torch.eye(4)
FEATURES = functional.normalize(torch.tensor([[9.0, 3.0, 1.0, 0.0], [1.0, 2.0, 3.0, 9.0], [1.0, 1.0, 1.0, 1.0]]))


def files(folder: Folder) -> dict[str, bytes]:
    return {name: folder.read(name) for name in folder.names()}


def labelled(config: LabelsConfig, named: Sequence[int] | None = None) -> label_regions.Labels:
    """Labels of FEATURES as the regions of one image."""
    return label(FEATURES, EYE, config, [len(FEATURES)], None if named is None else [named])


def test_labels_are_the_likeliest_concepts_with_their_probabilities() -> None:
    found = labelled(LabelsConfig(temperature=0.5, threshold=0.5, top_k=2))
    expected = (FEATURES / 0.5).softmax(dim=1)
    assert found.matches.concept_ids[:2].tolist() == [[0, 1], [3, 2]]
    torch.testing.assert_close(found.matches.log_probabilities.exp(), expected.topk(2).values)
    assert found.keep.tolist() == (expected.max(dim=1).values > 0.5).tolist() == [True, True, False]


def test_captions_exclude_the_other_concepts_and_the_pool_s_view_stays() -> None:
    config = LabelsConfig(temperature=0.5, threshold=0.5, top_k=4, candidates="captions")
    matches = labelled(config, [1, 2]).matches
    assert set(matches.concept_ids[:, 0].tolist()) <= {1, 2}
    assert matches.log_probabilities[:, 2:].exp().max() == 0
    torch.testing.assert_close(matches.log_probabilities[:, :2].exp().sum(dim=1), torch.ones(3))
    of_pool = (FEATURES / 0.5).softmax(dim=1).gather(1, matches.concept_ids)
    torch.testing.assert_close(matches.pool_log_probabilities.exp(), of_pool)
    assert matches.margin[0] < 0


def test_each_image_has_the_candidates_of_its_own_captions() -> None:
    config = LabelsConfig(temperature=0.5, threshold=0.0, candidates="captions", top_k=1)
    found = label(FEATURES, EYE, config, [1, 0, 1, 1], [[1, 2], [0], [2], []])
    assert found.matches.concept_ids[:2, 0].tolist() == [1, 2]
    assert found.keep.tolist() == [True, True, False]


def test_captions_that_name_no_concept_keep_no_region() -> None:
    config = LabelsConfig(temperature=0.5, threshold=0.1, candidates="captions")
    found = labelled(config, [])
    assert not found.keep.any()
    assert found.matches.concept_ids[:2, 0].tolist() == [0, 3]


def test_a_weight_multiplies_the_odds_of_named_concepts() -> None:
    config = LabelsConfig(temperature=0.5, candidates="weighted", caption_weight=3.0, top_k=4)
    plain, weighted = labelled(replace(config, candidates="pool"), [2]), labelled(config, [2])

    def odds(found: label_regions.Labels) -> torch.Tensor:
        matches = found.matches
        share = torch.zeros(3, 4).scatter(1, matches.concept_ids, matches.log_probabilities.exp())[:, 2]
        return share / (1 - share)

    torch.testing.assert_close(odds(weighted), 3 * odds(plain))


def test_the_pool_may_veto_a_label_that_captions_force() -> None:
    config = LabelsConfig(temperature=0.5, threshold=0.5, candidates="captions", pool_threshold=0.2)
    found = labelled(config, [3])
    assert found.matches.log_probabilities[:, 0].exp().tolist() == [1.0, 1.0, 1.0]
    assert found.keep.tolist() == [False, True, True]


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
    for column in ("image_id", "uri", "sha256", "width", "height", "boxes", "objectness"):
        assert labels[column].to_pylist() == regions[column].to_pylist()
    probabilities = pc.exp(pc.list_flatten(pc.list_flatten(labels["log_probabilities"]))).to_numpy()
    assert probabilities.reshape(-1, 4).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_the_evidence_is_that_of_the_whole_pool(world: Any, run: Any) -> None:
    artifact = run("evidence", config={"top_k": 2})
    columns = ["concept_ids", "pool_log_probabilities", "log_normalizer", "kept_mass", "entropy", "margin"]
    labels = grouped_lists(read_table(artifact, "region_labels"), columns)
    features = grouped_lists(read_table(world["regions"], "regions"), ["features"])["features"].astype(np.float64)
    pool = load_embeddings(world["embeddings"].folder.local())[1].double()
    full = match(torch.from_numpy(features), pool, 0.1)
    best = full.exp().topk(2, dim=1)
    kept = full.gather(1, torch.from_numpy(labels["concept_ids"].astype(np.int64)))
    assert labels["pool_log_probabilities"] == pytest.approx(kept.numpy(), abs=1e-5)
    assert labels["kept_mass"] == pytest.approx(best.values.sum(dim=1).numpy(), abs=1e-5)
    assert labels["entropy"] == pytest.approx(-(full.exp() * full).sum(dim=1).numpy(), abs=1e-5)
    assert labels["margin"] == pytest.approx((best.values[:, 0] - best.values[:, 1]).numpy(), abs=1e-5)
    cosines = functional.normalize(torch.from_numpy(features), dim=1) @ functional.normalize(pool, dim=1).T
    assert labels["log_normalizer"] == pytest.approx((cosines / 0.1).logsumexp(dim=1).numpy(), abs=1e-5)


def test_files_say_what_their_labels_are_made_of(world: Any, run: Any, tmp_path: Path) -> None:
    shutil.copytree(world["regions"].folder.local(), tmp_path / "regions")
    regions = Artifact("regions", "encoded", Folder(str(tmp_path / "regions")))
    regions.folder.write(MANIFEST, json.dumps({"inputs": {"clip": {"kind": "clip", "key": "tiny"}}}).encode())
    artifact = run("about", config={"candidates": "weighted"}, regions=regions, captions=world["train_captions"])
    schema = pq.read_schema(artifact.folder.path("region_labels-00001.parquet"))
    assert schema.equals(REGION_LABELS)
    assert {name.decode(): value.decode() for name, value in schema.metadata.items()} == {
        "regions": "encoded",
        "teacher": "tiny",
        "pool": "",
        "pool_order_sha256": order_sha256(("cat", "cup", "kite", "anchor")),
        "embeddings": "classes",
        "templates": "",
        "ensemble": "",
        "temperature": "0.1",
        "candidates": "weighted",
        "caption_weight": "10",
    }
    assert b"unit: nat" in schema.field("entropy").metadata[b"about"]


def test_files_name_the_templates_as_the_embeddings_do_and_never_by_a_path(
    world: Any, run: Any, tmp_path: Path
) -> None:
    about = {"templates": "file", "ensemble": "mean"}
    save_embeddings(tmp_path, *load_embeddings(world["embeddings"].folder.local()), about)
    embeddings = Artifact("embeddings", "own", Folder(str(tmp_path)))
    manifest = {"config": {"templates": "/home/me/secret.txt", "ensemble": "mean"}}
    embeddings.folder.write(MANIFEST, json.dumps(manifest).encode())
    artifact = run("named", embeddings=embeddings)
    metadata = pq.read_schema(artifact.folder.path("region_labels-00000.parquet")).metadata
    assert (metadata[b"templates"], metadata[b"ensemble"]) == (b"file", b"mean")


def test_pandas_reads_labels_with_no_code_of_ours(world: Any) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(world["labels"].folder.path("region_labels-00000.parquet"))
    row = frame.iloc[0]
    assert len(row["concept_ids"]) == len(row["entropy"]) == len(row["boxes"])
    assert set(row["source"]) == {"teacher"}


def test_captions_name_a_concept_by_the_words_merged_into_it_where_concepts_are_given(world: Any, run: Any) -> None:
    concepts = world.artifact("concepts", "merged")
    rows = [
        {"concept": name, "document_frequency": 1, "count": 1, "surface_forms": [], "examples": [], "parser": "rules"}
        | {"merged_from": ["wall"] if name == "anchor" else []}
        for name in ("cat", "cup", "kite", "anchor")
    ]
    write_table(concepts.folder, "concepts", pa.Table.from_pylist(rows, CONCEPTS))
    given = {"config": {"candidates": "captions"}, "captions": world["train_captions"]}
    without, merged = run("unmerged", **given), run("merged", **given, concepts=concepts)

    def anchors(artifact: Artifact) -> int:
        rows = read_table(artifact, "region_labels").to_pylist()
        pairs = ((row["concept_ids"], row["log_probabilities"]) for row in rows)
        return sum(
            value > -math.inf
            for ids, values in pairs
            for region, of_region in zip(ids, values, strict=True)
            for concept, value in zip(region, of_region, strict=True)
            if concept == 3
        )

    num_regions = sum(len(row["keep"]) for row in read_table(merged, "region_labels").to_pylist())
    assert anchors(without) < anchors(merged) == num_regions  # every caption is about a grey wall


def test_concepts_that_were_not_embedded_are_refused(world: Any, run: Any) -> None:
    concepts = world.artifact("concepts", "other")
    row = {
        "concept": "dog",
        "document_frequency": 1,
        "count": 1,
        "surface_forms": [],
        "examples": [],
        "parser": "rules",
    }
    write_table(concepts.folder, "concepts", pa.Table.from_pylist([row | {"merged_from": []}], CONCEPTS))
    with pytest.raises(ValueError, match="4 of 4 embedded concepts are not in concepts other, first is 'cat'"):
        run("others", config={"candidates": "captions"}, captions=world["train_captions"], concepts=concepts)


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


def test_captions_travel_in_files_of_the_regions_rows(world: Any, run: Any) -> None:
    artifact = run("travel", config={"candidates": "captions"}, captions=world["train_captions"])
    said = read_table(world["train_captions"], "captions").to_pylist()
    for name in table_files(world["regions"].folder, "regions"):
        stem = name.removesuffix(".parquet")
        image_ids = read_table(world["regions"].folder, stem)["image_id"].to_pylist()
        expected = [[row["caption"] for row in said if row["image_id"] == image_id] for image_id in image_ids]
        assert read_table(artifact.folder.child(WORK), stem)["captions"].to_pylist() == expected


def test_regions_in_8_bits_get_the_same_labels_but_for_the_closest(world: Any, run: Any) -> None:
    coarse = Artifact("regions", "coarse_twin", Folder(str(world.store / "regions" / "coarse_twin")))
    for part, table in enumerate(iter_tables(world["regions"], "regions")):
        fine = grouped_lists(table, ["features"])
        packed = pack_features(torch.from_numpy(fine["features"]), "int8")
        schema = regions(32, "int8")
        columns = {name: table[name] for name in table.column_names} | {
            name: list_column(each.numpy(), np.diff(fine.offsets), schema.field(name).type.value_type)
            for name, each in packed.items()
        }
        rows = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
        write_table(coarse.folder, f"regions-{part:05d}", rows)
    coarse.folder.write(MANIFEST, b"{}")
    first, second = (
        grouped_lists(read_table(artifact, "region_labels"), ["concept_ids", "pool_log_probabilities", "margin"])
        for artifact in (world["labels"], run("coarse", regions=coarse))
    )
    other = first["concept_ids"][:, 0] != second["concept_ids"][:, 0]
    assert (first["margin"][other] < 0.02).all()
    assert other.mean() < 0.1
    apart = np.sort(first["pool_log_probabilities"], axis=1) - np.sort(second["pool_log_probabilities"], axis=1)
    assert 0 < np.abs(apart).max() < 0.1


def test_regions_of_an_older_version_are_refused(world: Any, run: Any) -> None:
    old = world.artifact("regions", "old")
    write_table(old.folder, "regions", read_table(world["regions"], "regions").drop_columns(["uri", "sha256"]))
    with pytest.raises(ValueError, match="regions old have no column uri, sha256: an older version made them"):
        run("old", regions=old)


@pytest.mark.parametrize("values", [{"threshold": 5.0}, {"threshold": -0.1}, {"pool_threshold": 1.5}])
def test_a_threshold_that_is_no_probability_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="are probabilities; give 0 to 1"):
        LabelsConfig(**values)
    LabelsConfig(threshold=1.0, pool_threshold=0.0)


def test_captions_are_asked_for_where_labels_need_them(run: Any) -> None:
    with pytest.raises(ValueError, match="'captions' needs captions of the images"):
        run("uncaptioned", config={"candidates": "captions"})


def test_a_pool_of_another_width_is_refused(world: Any, run: Any) -> None:
    other = world.artifact("embeddings", "narrow")
    save_embeddings(other.folder.local(), ["cat"], torch.ones(1, 16))
    with pytest.raises(ValueError, match="embedding width 16 differs from the region encoder's width 32"):
        run("narrow", embeddings=other)
