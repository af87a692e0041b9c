"""Noun phrases from a pipeline that was trained and saved here, and from copies of it with parts missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import spacy
from spacy.language import Language

from regionclip.concepts import trained
from regionclip.concepts.mentions import Mention
from regionclip.concepts.naming import FRAME_WORD, Naming
from regionclip.concepts.parsing import ParsingConfig, make_parsers
from regionclip.concepts.trained import TrainedParser, find_pipeline


@pytest.fixture(scope="module")
def parser(trained_pipeline: Path) -> TrainedParser:
    return TrainedParser(spacy.load(trained_pipeline))


@pytest.fixture
def pipeline(trained_pipeline: Path) -> Language:
    """The pipeline by itself, to be changed."""
    return spacy.load(trained_pipeline)


@pytest.fixture
def folder(trained_pipeline: Path, tmp_path: Path) -> Path:
    """A copy of the pipeline's folder, to be broken."""
    return shutil.copytree(trained_pipeline, tmp_path / "copy")


def share_found(parser: TrainedParser, sentences: list[tuple[str, list[str]]]) -> float:
    """The share of sentences whose noun phrases are found exactly."""
    found = parser.mentions(text for text, _ in sentences)
    right = [
        [mention.surface for mention in mentions] == surfaces
        for mentions, (_, surfaces) in zip(found, sentences, strict=True)
    ]
    return sum(right) / len(right)


def names(parser: TrainedParser, caption: str) -> list[str]:
    [mentions] = parser.mentions([caption])
    return [mention.name for mention in mentions]


def test_a_saved_pipeline_finds_the_noun_phrases_of_new_sentences(
    trained_pipeline: Path, held_out_sentences: list[tuple[str, list[str]]]
) -> None:
    [parser] = make_parsers(ParsingConfig(parsers=("spacy",), pipeline=str(trained_pipeline)))
    assert parser.name == "spacy:en_templates-1.2.3"
    assert parser.folds
    assert isinstance(parser, TrainedParser)
    assert share_found(parser, held_out_sentences) > 0.85


@pytest.mark.parametrize("removed", ["tagger", "morphologizer"])
def test_parts_of_speech_may_come_from_tags_or_from_the_morphologizer(
    pipeline: Language, removed: str, held_out_sentences: list[tuple[str, list[str]]]
) -> None:
    pipeline.remove_pipe(removed)
    assert share_found(TrainedParser(pipeline), held_out_sentences) > 0.85


@pytest.mark.parametrize(
    ("removed", "missing"), [(["parser"], "no parser"), (["tagger", "morphologizer"], "no tagger or morphologizer")]
)
def test_a_pipeline_without_a_needed_component_is_refused(pipeline: Language, removed: list[str], missing: str) -> None:
    for name in removed:
        pipeline.disable_pipe(name)
    with pytest.raises(ValueError, match=f"en_templates-1.2.3 has {missing}"):
        TrainedParser(pipeline)


def test_a_parser_with_other_labels_is_refused() -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("tagger")
    nlp.add_pipe("parser").add_label("obl")
    with pytest.raises(ValueError, match="none of the labels dobj, pobj"):
        TrainedParser(nlp)


def test_components_that_noun_phrases_do_not_need_are_not_run(pipeline: Language) -> None:
    pipeline.add_pipe("lemmatizer")  # without its tables it fails when it is run
    assert names(TrainedParser(pipeline), "A dog chases a ball near the bench .") == ["dog", "ball", "bench"]


def test_heads_bring_their_compound_and_their_possessor(parser: TrainedParser) -> None:
    [mentions] = parser.mentions(["Two train tables near a small fire bench ."])
    assert mentions == [Mention("train table", "train tables"), Mention("fire bench", "fire bench")]
    assert names(parser, "The woman 's kite in Boston") == ["woman", "kite", "boston"]
    assert names(parser, "A dog behind it") == ["dog"]


def test_a_fixed_phrase_keeps_its_adjective(parser: TrainedParser) -> None:
    assert names(parser, "a hot dog on a large table") == ["hot dog", "table"]


def test_frame_words_and_synonyms_are_named_as_by_other_parsers(pipeline: Language) -> None:
    parser = TrainedParser(pipeline, Naming({"sofa": ("couch",)}))
    [mentions] = parser.mentions(["a photo with a red couch"])
    assert mentions == [Mention("photo", "photo", reason=FRAME_WORD), Mention("sofa", "couch", "couch")]


def test_attributes_are_the_adjective_before_the_compound(pipeline: Language) -> None:
    parser = TrainedParser(pipeline, attributes=True)
    assert names(parser, "A dog chases the red train table near a wooden bench .") == [
        "dog",
        "red train table",
        "wooden bench",
    ]
    assert names(parser, "There are three boats near the other bus .") == ["boat", "bus"]


@pytest.mark.parametrize("size", [1, 7])
def test_mentions_do_not_depend_on_the_batch(
    parser: TrainedParser, size: int, held_out_sentences: list[tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = [text for text, _ in held_out_sentences]
    whole = list(parser.mentions(captions))
    monkeypatch.setattr(trained, "BATCH_SIZE", size)
    assert list(parser.mentions(captions)) == whole


def test_empty_captions_have_empty_lists(parser: TrainedParser) -> None:
    assert list(parser.mentions(["", " \n ", "..."])) == [[], [], []]


def test_the_words_of_captions_are_not_kept(pipeline: Language) -> None:
    list(TrainedParser(pipeline).mentions(["a zxqvbnm near a bench"]))
    assert "zxqvbnm" not in pipeline.vocab.strings


def test_what_is_no_pipeline_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{}")
    assert find_pipeline(str(tmp_path)) is None
    (tmp_path / "config.cfg").touch()
    with pytest.raises(ValueError, match=r"meta.json describes no spaCy pipeline \(KeyError\('lang'\)\)"):
        find_pipeline(str(tmp_path))


def test_a_pipeline_that_spacy_cannot_load_is_refused_with_the_reason(folder: Path) -> None:
    (folder / "parser" / "model").unlink()
    files = find_pipeline(str(folder))
    assert files is not None
    with pytest.raises(ValueError, match=r"cannot be loaded \(.*parser/model"):
        files.load()


def test_a_config_cannot_name_code_that_is_not_registered(folder: Path) -> None:
    config = folder / "config.cfg"
    config.write_text(config.read_text().replace('factory = "tagger"', 'factory = "own_code"'))
    (folder / "own_code.py").write_text("raise SystemExit")
    files = find_pipeline(str(folder))
    assert files is not None
    with pytest.raises(ValueError, match=r"cannot be loaded \(.*own_code"):
        files.load()


def test_the_hash_is_of_the_content_and_not_of_the_place(trained_pipeline: Path, folder: Path) -> None:
    here, there = find_pipeline(str(trained_pipeline)), find_pipeline(str(folder))
    assert here is not None
    assert there is not None
    before = here.sha256()
    assert there.sha256() == before
    meta = folder / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"version": "9.9.9"}))
    assert there.sha256() != before
    shutil.rmtree(folder)
    shutil.copytree(trained_pipeline, folder)
    (folder / "tagger" / "cfg").rename(folder / "tagger" / "configuration")
    assert there.sha256() != before
