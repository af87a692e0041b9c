"""The report of a pool: coverage as metrics and JSON, plots, and a page that stands with and without phrases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from regionclip.concepts.counting import count_mentions
from regionclip.concepts.mentions import Mention
from regionclip.concepts.pool import choose_concepts, pool_of_names
from stages.contract import MANIFEST, Artifact
from stages.parts import write_table
from stages.report_concepts import STAGE, ReportConceptsConfig, class_groups, identity
from stages.storage import Folder

CAPTIONS = ["dog", "dog sofa", "dog pickup-truck", "dog cat", "sofa cat", "dog gnu", "gnu", "<b>bus</b>"] * 3
FILES = ["coverage.json", "long_tail.png", "report.html", "size_against_threshold.png"]
GROUPS = {"base": ("dog", "couch", "truck"), "novel": ("cat", "gnu", "toaster")}
CONFIG = ReportConceptsConfig(groups=GROUPS, coco=False)


class WordParser:
    """Every word of a caption is a concept; a hyphen parts the words of a compound."""

    name = "words"
    folds = True

    def mentions(self, captions: Iterable[str]) -> Iterator[list[Mention]]:
        for caption in captions:
            yield [Mention(word.replace("-", " "), word) for word in caption.split()]


def artifact(root: Path, kind: str, config: dict[str, Any], metrics: dict[str, float]) -> Artifact:
    made = Artifact(kind, f"{kind}-key", Folder(str(root / kind)))
    manifest = {"stage": f"make_{kind}", "version": 1, "config": config, "inputs": {}, "metrics": metrics, "marks": []}
    made.folder.write(MANIFEST, json.dumps({**manifest, "marks": ["synthetic"]}).encode())
    return made


@pytest.fixture(scope="module")
def phrases(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    made = artifact(tmp_path_factory.mktemp("phrases"), "phrases", {"parsers": ["auto"]}, {"captions": len(CAPTIONS)})
    half = len(CAPTIONS) // 2
    for part, start in enumerate((0, half)):
        pieces = list(count_mentions(CAPTIONS[start : start + half], [WordParser()], start).tables())
        for table in ("groups", "phrases"):
            write_table(made.folder, f"{table}-{part:05d}", pa.concat_tables([piece[table] for piece in pieces]))
    parsing = {"parsers": ["words"], "folds": True, "names": [], "message": "auto: words, as no other is installed"}
    made.folder.write("parsing.json", json.dumps(parsing).encode())
    return made


@pytest.fixture(scope="module")
def concepts(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    pieces = list(count_mentions(CAPTIONS, [WordParser()]).tables())
    pool = choose_concepts(([[piece["groups"]], [piece["phrases"]]] for piece in pieces), 6)
    config = {"names": [], "min_document_frequency": 6, "max_size": None}
    metrics = {"concepts": pool.concepts.num_rows, **pool.totals}
    made = artifact(tmp_path_factory.mktemp("concepts"), "concepts", config, metrics)
    for table in ("concepts", "thresholds", "dropped"):
        write_table(made.folder, table, getattr(pool, table))
    return made


class Lent:
    """The part of a Context that the stage uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = Folder(str(folder))


@dataclass(frozen=True)
class Made:
    """What a run of the stage wrote and said."""

    folder: Folder
    metrics: dict[str, float]
    coverage: dict[str, Any]
    html: str

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for group in self.coverage["groups"].values() for row in group["rows"]}


def report(folder: Path, config: ReportConceptsConfig, **inputs: Artifact) -> Made:
    STAGE.key(config, inputs)
    context = Lent(folder)
    result = STAGE.run(context, config, **inputs)
    coverage = json.loads(context.folder.read("coverage.json"))
    return Made(context.folder, dict(result.metrics), coverage, context.folder.read("report.html").decode())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, concepts: Artifact, phrases: Artifact) -> Made:
    return report(tmp_path_factory.mktemp("report"), CONFIG, concepts=concepts, phrases=phrases)


def test_coverage_is_told_by_metrics_and_by_class(made: Made) -> None:
    assert made.metrics == {
        "concepts": 4,
        **{"classes_base": 3, "covered_base": 2, "lacking_base": 1},
        **{"classes_novel": 3, "covered_novel": 2, "lacking_novel": 1},
    }
    rows = made.rows
    assert (rows["couch"]["state"], rows["couch"]["concept"]) == ("other_word", "sofa")
    assert (rows["truck"]["state"], rows["truck"]["captions"]) == ("lacking", 3)
    assert (rows["toaster"]["state"], rows["toaster"]["captions"]) == ("lacking", 0)
    assert made.coverage["novel_in_pool"] == {"novel": ["cat", "gnu"]}


def test_page_names_the_parser_its_reason_and_the_threshold(made: Made) -> None:
    assert "<dd>words</dd>" in made.html
    assert "auto: words, as no other is installed" in made.html
    assert "A concept is named in 6 captions or more." in made.html
    assert "<b>24</b>" in made.html
    assert "<strong>synthetic</strong>" in made.html
    assert "phrases-key" in made.html


def test_page_escapes_captions(made: Made) -> None:
    assert "&lt;b&gt;bus&lt;/b&gt;" in made.html
    assert "<b>bus</b>" not in made.html


def test_same_inputs_give_same_bytes(tmp_path: Path, made: Made, concepts: Artifact, phrases: Artifact) -> None:
    again = report(tmp_path, CONFIG, concepts=concepts, phrases=phrases).folder
    assert made.folder.names() == again.names() == FILES
    assert all(made.folder.read(name) == again.read(name) for name in FILES)
    assert all(Image.open(tmp_path / name).format == "PNG" for name in FILES if name.endswith("png"))


def test_page_stands_without_phrases_and_counts_no_captions(tmp_path: Path, concepts: Artifact) -> None:
    without = report(tmp_path, CONFIG, concepts=concepts)
    assert {row["captions"] for row in without.rows.values()} == {None}
    assert "is not known without the phrases" in without.html


def test_page_stands_for_a_list_of_names_that_no_caption_was_counted_for(tmp_path: Path) -> None:
    listed = artifact(tmp_path, "concepts", {}, {"concepts": 2})
    write_table(listed.folder, "concepts", pool_of_names(("dog", "tennis ball")).concepts)
    named = report(tmp_path / "out", ReportConceptsConfig({"toys": ("ball",)}, coco=True), concepts=listed)
    assert [named.metrics[f"covered_{group}"] for group in ("toys", "coco_base", "coco_novel")] == [1, 0, 1]
    assert "not chosen from captions" in named.html
    assert named.folder.names() == ["coverage.json", "report.html"]


def classes_file(path: Path, *names: str, **more: object) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"annotations": [], **more, "categories": [{"name": name} for name in names]}))
    return str(path)


def test_class_files_enter_the_key_by_their_classes_and_not_their_path(tmp_path: Path) -> None:
    def config(*files: str) -> ReportConceptsConfig:
        return ReportConceptsConfig(files=files)

    first = config(classes_file(tmp_path / "a" / "x.json", "dog", "cat"))
    moved = config(classes_file(tmp_path / "b" / "y.json", "dog", "cat", info={"images": 3}))
    other = config(classes_file(tmp_path / "c" / "x.json", "dog", "cow"))
    assert identity(first) == identity(moved) != identity(other)
    both = class_groups(config(*moved.files, *other.files))
    assert [name.name for name in both["classes"]] == ["dog", "cat", "cow"]
    assert str(tmp_path) not in json.dumps(identity(first))


def test_empty_groups_are_left_out() -> None:
    assert list(class_groups(ReportConceptsConfig({"base": (), "novel": ("ox",)}, coco=False))) == ["novel"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"groups": {"base": ("dog", "dog")}}, "lists 'dog' twice"),
        ({"groups": {"base": ("dog", " ")}}, "has an empty name"),
        ({"groups": {"coco_novel": ("dog",)}}, "call it otherwise"),
        ({"top": 0}, "top 0 must be 1 or more"),
        ({"sample": -1}, "sample -1 0 or more"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ReportConceptsConfig(**values)
