"""Captions to phrases to concepts, through the stages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regionclip.concepts.counting import NUM_BUCKETS
from regionclip.concepts.coverage import Concept, PoolIndex, cover
from regionclip.concepts.parsing import ParsingConfig
from regionclip.concepts.vocabularies import OTHER_WORDS, coco_groups
from regionclip.schemas import CAPTIONS, CONCEPTS, DROPPED, PHRASE_GROUPS, PHRASES, THRESHOLDS
from stages import extract_concepts, parse_captions
from stages.contract import Artifact, Resources
from stages.extract_concepts import ConceptsConfig
from stages.local_context import LocalContext
from stages.parts import read_table
from stages.storage import Folder

Run = Callable[..., Artifact]


RULES = ParsingConfig(("rules",))
TEXTS = ["a dog near a traffic light", "two dogs", "the cat", "a cat and a dog on a kitchen table", "a traffic light"]


def captions_of(folder: Path, texts: Sequence[str], rows_per_group: int) -> Artifact:
    """A captions artifact of two files, if the texts are more than one row group."""
    folder.mkdir(parents=True)
    table = pa.table({"image_id": [None] * len(texts), "caption": list(texts)}, schema=CAPTIONS)
    half = rows_per_group * (len(texts) // rows_per_group // 2)
    pieces = [table.slice(0, half), table.slice(half)] if half else [table]
    for number, piece in enumerate(pieces):
        pq.write_table(piece, folder / f"captions-{number:05d}.parquet", row_group_size=rows_per_group)
    return Artifact("captions", folder.name, Folder(str(folder)))


@pytest.fixture
def captions(tmp_path: Path) -> Artifact:
    return captions_of(tmp_path / "captions", TEXTS, 2)


def contents(artifact: Artifact) -> dict[str, bytes]:
    return {name: artifact.folder.read(name) for name in artifact.folder.names() if not name.startswith("manifest")}


def test_phrases_hold_all_buckets_of_every_part_and_how_was_parsed(run_stage: Run, captions: Artifact) -> None:
    phrases = run_stage(parse_captions.STAGE, RULES, captions=captions)
    for number in range(3):
        for table, schema in (("groups", PHRASE_GROUPS), ("phrases", PHRASES)):
            file = pq.ParquetFile(phrases.folder.path(f"{table}-{number:05d}.parquet"))
            assert file.num_row_groups == NUM_BUCKETS
            assert file.schema_arrow.equals(schema)
    assert phrases.manifest["metrics"] == {"captions": 5, "mentions": 8}
    about = json.loads(phrases.folder.read("parsing.json"))
    assert about == {"parsers": ["rules"], "folds": True, "names": [], "message": "rules, as asked for"}


def test_concepts_are_counted_by_caption_and_the_rest_is_told(run_stage: Run, captions: Artifact) -> None:
    phrases = run_stage(parse_captions.STAGE, RULES, captions=captions)
    concepts = run_stage(extract_concepts.STAGE, ConceptsConfig(min_document_frequency=2), phrases=phrases)
    rows = read_table(concepts, "concepts").to_pylist()
    assert [(row["concept"], row["document_frequency"]) for row in rows] == [
        ("dog", 3),
        ("cat", 2),
        ("traffic light", 2),
    ]
    assert rows[0]["surface_forms"] == ["dog", "dogs"]
    assert rows[0]["examples"] == [TEXTS[0], TEXTS[1], TEXTS[3]]
    assert read_table(concepts, "thresholds").to_pylist() == [
        {"min_document_frequency": 1, "concepts": 4},
        {"min_document_frequency": 2, "concepts": 3},
    ]
    assert read_table(concepts, "dropped")["name"].to_pylist() == ["table"]
    metrics = {"concepts": 3, "num_phrases": 4, "num_rare": 1, "num_frame_words": 0, "num_beyond_max_size": 0}
    assert concepts.manifest["metrics"] == metrics


def test_the_pool_does_not_depend_on_how_captions_are_parted(run_stage: Run, tmp_path: Path) -> None:
    texts = [text for text in TEXTS for _ in range(2)]
    pools = []
    for rows_per_group in (1, 3, 100):
        captions = captions_of(tmp_path / f"by-{rows_per_group}", texts, rows_per_group)
        phrases = run_stage(parse_captions.STAGE, RULES, captions=captions)
        pools.append(run_stage(extract_concepts.STAGE, ConceptsConfig(min_document_frequency=2), phrases=phrases))
    assert len({pool.key for pool in pools}) == 3
    assert contents(pools[0]) == contents(pools[1]) == contents(pools[2])


def test_workers_and_restarts_change_no_byte(
    run_stage: Run, captions: Artifact, tmp_path: Path, ray_session: Any
) -> None:
    here = run_stage(parse_captions.STAGE, RULES, captions=captions)
    folder = Folder(str(tmp_path / "spread"))
    parse_captions.parse_captions(LocalContext(folder, Resources(num_workers=2, num_cpus=0.5)), RULES, captions)
    there = Artifact("phrases", "spread", folder)
    assert contents(here) == contents(there)
    folder.delete("phrases-00001.parquet")
    parse_captions.parse_captions(LocalContext(folder), RULES, captions)
    assert contents(here) == contents(there)


def test_several_parsers_and_listed_names_make_one_pool(run_stage: Run, captions: Artifact) -> None:
    config = ParsingConfig(("list", "rules"), names=("zebra", "kitchen table"))
    phrases = run_stage(parse_captions.STAGE, config, captions=captions)
    choice = ConceptsConfig(("Cats", "ant"), min_document_frequency=3)
    concepts = run_stage(extract_concepts.STAGE, choice, phrases=phrases)
    rows = read_table(concepts, "concepts").to_pylist()
    assert {row["concept"]: (row["document_frequency"], row["parser"]) for row in rows} == {
        "dog": (3, "rules"),
        "cat": (2, "list+rules"),
        "kitchen table": (1, "list+rules"),
        "ant": (0, "list"),
        "zebra": (0, "list"),
    }


def test_names_that_the_parser_looked_for_count_for_the_size_of_the_pool(run_stage: Run, captions: Artifact) -> None:
    config = ParsingConfig(("list", "rules"), names=("zebra", "kitchen table"))
    phrases = run_stage(parse_captions.STAGE, config, captions=captions)
    with pytest.raises(ValueError, match="max_size 2 is less than the 3 listed names; raise it"):
        run_stage(extract_concepts.STAGE, ConceptsConfig(("ant",), max_size=2), phrases=phrases)


def test_names_that_are_counted_under_another_spelling_are_told(
    run_stage: Run, captions: Artifact, tmp_path: Path
) -> None:
    phrases = run_stage(parse_captions.STAGE, RULES, captions=captions)
    context = LocalContext(Folder(str(tmp_path / "pool")))
    extract_concepts.extract_concepts(context, ConceptsConfig(("Cats", "dog")), phrases)
    assert [(done, total) for done, total, _ in context.progress] == [
        (bucket, NUM_BUCKETS) for bucket in range(NUM_BUCKETS + 1)
    ]
    assert context.said == ["listed names are counted as captions have them: 'Cats' as 'cat'"]


def test_a_list_of_names_needs_no_captions(run_stage: Run) -> None:
    concepts = run_stage(extract_concepts.STAGE, ConceptsConfig(("Zebra_s", "ant")))
    for table, schema in (("concepts", CONCEPTS), ("thresholds", THRESHOLDS), ("dropped", DROPPED)):
        assert read_table(concepts, table).schema.equals(schema)
    assert read_table(concepts, "concepts")["concept"].to_pylist() == ["Zebra_s", "ant"]
    assert concepts.manifest["metrics"] == {"concepts": 2}
    with pytest.raises(ValueError, match="needs concepts to choose from; give captions, or a list of names"):
        run_stage(extract_concepts.STAGE, ConceptsConfig())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_document_frequency": 0}, "min_document_frequency is 0"),
        ({"max_size": 0}, "max_size is 0"),
        ({"max_size": 1, "names": ("dog", "cat")}, "max_size 1 is less than the 2 listed names"),
        ({"names": ("dog", "dog")}, "'dog' stands twice"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConceptsConfig(**values)


def test_real_captions_give_the_open_vocabulary_class_names(run_stage: Run, shared: Path, tmp_path: Path) -> None:
    """A class is in the pool when enough captions hold its name, or a documented other word for it, as a word."""
    source = json.loads((shared / "data" / "captions" / "coco_captions_val2017.json").read_text())
    texts, least = [row["caption"] for row in source["annotations"]], 20
    phrases = run_stage(parse_captions.STAGE, RULES, captions=captions_of(tmp_path / "real", texts, 20_000))
    concepts = run_stage(extract_concepts.STAGE, ConceptsConfig(min_document_frequency=least), phrases=phrases)
    rows = read_table(concepts, "concepts").to_pylist()
    index = PoolIndex(
        Concept(row["concept"], row["document_frequency"], row["surface_forms"], row["merged_from"]) for row in rows
    )
    classes = [name for group in coco_groups().values() for name in group]
    states = {row.name: row.state for row in cover(classes, index)}
    text = [f" {' '.join(re.findall('[a-z]+', caption.lower()))} " for caption in texts]
    words = {name.name: (name.name, *OTHER_WORDS.get(name.name, ())) for name in classes}
    written = {
        name: sum(
            any(f" {word}{plural} " in caption for word in forms for plural in ("", "s", "es")) for caption in text
        )
        for name, forms in words.items()
    }
    assert len(states) == 65
    assert not {name for name, state in states.items() if state == "lacking" and written[name] >= least}
    pool = {row["concept"] for row in rows}
    assert not {"photo", "front", "group", "top", "men", "people"} & pool
