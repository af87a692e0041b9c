"""Which parsers a config means, what of it enters a key, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from regionclip.concepts import trained
from regionclip.concepts.parsing import ParsingConfig, identity, make_parsers, resolve

Install = Callable[..., None]


@pytest.fixture
def install(trained_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs the trained pipeline as packages of other names; before the first call none is installed."""
    installed: list[SimpleNamespace] = []
    monkeypatch.setattr(trained, "entry_points", lambda group: installed if group == "spacy_models" else [])
    monkeypatch.syspath_prepend(tmp_path)

    def put(name: str, without: str = "") -> None:
        language, _, own = name.partition("_")
        package = tmp_path / name
        data = shutil.copytree(trained_pipeline, package / f"{name}-1.2.3")
        meta = json.loads((data / "meta.json").read_text()) | {"lang": language, "name": own}
        for folder in (package, data):
            (folder / "meta.json").write_text(json.dumps(meta))
        if without:
            config = (data / "config.cfg").read_text()
            (data / "config.cfg").write_text(config.replace(f', "{without}"', "", 1))
        (package / "__init__.py").write_text(
            "from spacy.util import load_model_from_init_py\n"
            "def load(**overrides):\n    return load_model_from_init_py(__file__, **overrides)\n"
        )
        about = tmp_path / f"{name}-1.2.3.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
        installed.append(SimpleNamespace(name=name))

    yield put
    for each in installed:
        sys.modules.pop(each.name, None)


def names(config: ParsingConfig) -> list[str]:
    return [parser.name for parser in make_parsers(config)]


def test_parsers_come_in_the_order_of_the_config() -> None:
    config = ParsingConfig(parsers=("list", "ngrams", "rules"), names=("cat",))
    assert names(config) == ["list", "ngrams", "rules"]
    assert [parser.folds for parser in make_parsers(config)] == [False, False, True]


def test_all_parsers_share_spellings_and_synonyms() -> None:
    config = ParsingConfig(parsers=("list", "ngrams", "rules"), names=("couch", "tv"), synonyms={"couch": ("sofa",)})
    for parser in make_parsers(config):
        [mentions] = parser.mentions(["two sofas; a television"])
        assert [mention.name for mention in mentions] == ["couch", "tv"]


def test_the_length_of_ngrams_and_the_attributes_reach_their_parsers(trained_pipeline: Path) -> None:
    config = ParsingConfig(("ngrams", "spacy"), str(trained_pipeline), attributes=True, max_words=4)
    ngrams, spacy = make_parsers(config)
    caption = "A small wooden train table"
    assert max(len(mention.surface.split()) for [*found] in ngrams.mentions([caption]) for mention in found) == 4
    assert [mention.name for [*found] in spacy.mentions([caption]) for mention in found] == ["wooden train table"]


def test_auto_takes_the_named_pipeline(install: Install) -> None:
    install("en_a")
    install("en_b")
    config, why = resolve(ParsingConfig(pipeline="en_b"))
    assert (config.parsers, config.pipeline) == (("spacy",), "en_b")
    assert why == "auto: spacy, as the pipeline en_b 1.2.3 is there"
    assert names(config) == ["spacy:en_b-1.2.3"]


def test_auto_takes_the_first_other_english_pipeline_that_fits(install: Install) -> None:
    install("en_c")
    install("en_b")
    install("en_a", without="parser")
    install("de_a")
    config, why = resolve(ParsingConfig())
    assert (config.parsers, config.pipeline) == (("spacy",), "en_b")
    assert why == "auto: spacy with the pipeline en_b 1.2.3, as en_core_web_sm is not installed"


@pytest.mark.usefixtures("install")
def test_auto_takes_the_rules_where_no_pipeline_is_installed() -> None:
    config, why = resolve(ParsingConfig())
    assert config.parsers == ("rules",)
    assert why == "auto: rules, as no trained spaCy pipeline is installed (en_core_web_sm was looked for)"
    assert names(ParsingConfig()) == ["rules"]


@pytest.mark.usefixtures("install")
def test_auto_joins_other_parsers_and_stands_for_none_twice() -> None:
    config, _ = resolve(ParsingConfig(parsers=("list", "auto", "rules"), names=("cat",)))
    assert config.parsers == ("list", "rules")


def test_resolving_twice_changes_nothing(trained_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained_pipeline.parent)
    once, _ = resolve(ParsingConfig(pipeline=trained_pipeline.name))
    assert once.pipeline == str(trained_pipeline.resolve())
    assert resolve(once)[0] == once


@pytest.mark.usefixtures("install")
def test_a_pipeline_that_is_asked_for_must_be_there() -> None:
    with pytest.raises(ValueError, match="run 'python -m spacy download en_core_web_sm'"):
        resolve(ParsingConfig(parsers=("spacy",)))


def test_the_identity_knows_the_pipeline_and_not_its_place(
    install: Install, trained_pipeline: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained_pipeline, tmp_path / "elsewhere")
    known = identity(ParsingConfig(pipeline=str(trained_pipeline)))
    assert identity(ParsingConfig(parsers=("spacy",), pipeline=str(folder))) == known
    assert known["pipeline"].keys() == {"name", "version", "sha256"}
    assert str(tmp_path) not in json.dumps(known)
    (folder / "tagger" / "model").write_bytes(b"")
    assert identity(ParsingConfig(pipeline=str(folder))) != known
    install("en_other")
    assert identity(ParsingConfig(pipeline="en_other")) != known


def test_the_identity_of_auto_is_that_of_what_it_takes(install: Install) -> None:
    assert identity(ParsingConfig()) == identity(ParsingConfig(parsers=("rules",)))
    install("en_a")
    assert identity(ParsingConfig()) == identity(ParsingConfig(parsers=("spacy",), pipeline="en_a"))


RULES = ParsingConfig(parsers=("rules",))
LIST = ParsingConfig(parsers=("list",), names=("cat",))
NGRAMS = ParsingConfig(parsers=("ngrams",))


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (RULES, {"parsers": ("rules", "ngrams")}),
        (RULES, {"attributes": True}),
        (RULES, {"synonyms": {"couch": ("sofa",)}}),
        (LIST, {"names": ("dog",)}),
        (NGRAMS, {"max_words": 2}),
    ],
)
def test_what_changes_the_phrases_changes_the_identity(config: ParsingConfig, changes: dict[str, Any]) -> None:
    assert identity(replace(config, **changes)) != identity(config)


@pytest.mark.parametrize(
    ("config", "changes"),
    [(RULES, {"pipeline": "en_core_web_lg"}), (RULES, {"max_words": 5}), (NGRAMS, {"attributes": True})],
)
def test_what_no_parser_reads_changes_nothing(config: ParsingConfig, changes: dict[str, Any]) -> None:
    assert identity(replace(config, **changes)) == identity(config)


def test_the_identity_does_not_depend_on_the_order_of_synonyms() -> None:
    one = replace(RULES, synonyms={"couch": ("sofa", "settee"), "cup": ("mug",)})
    other = replace(RULES, synonyms={"cup": ("mug",), "couch": ("settee", "sofa")})
    assert json.dumps(identity(one), sort_keys=True) == json.dumps(identity(other), sort_keys=True)


@pytest.mark.parametrize("library", ["spacy", "lemminflect"])
def test_other_versions_of_the_libraries_are_another_identity(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(RULES)
    monkeypatch.setattr("regionclip.concepts.parsing.version", lambda name: "0" if name == library else "1")
    assert identity(RULES) != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parsers": ()}, "parsers is empty"),
        ({"parsers": ("spcy",)}, "no parser is named 'spcy'; did you mean spacy?"),
        ({"parsers": ("qqq",)}, "did you mean one of auto, spacy, rules, ngrams, list"),
        ({"parsers": ("rules", "rules")}, "'rules' stands 2 times"),
        ({"parsers": ("list",)}, "parser 'list' and no names"),
        ({"names": ("cat",)}, "1 names and no parser 'list'"),
        ({"parsers": ("list",), "names": ("cat", " ")}, "name 1 is ' '"),
        ({"parsers": ("list",), "names": ("cat\ndog",)}, r"name 0 is 'cat\\ndog'"),
        ({"parsers": ("list",), "names": ("cat", "cat")}, "'cat' stands twice"),
        ({"max_words": 0}, "max_words is 0"),
        ({"synonyms": {"couch": ("sofa",), "seat": ("sofa",)}}, "'sofa' stands for 'couch' and for 'seat'"),
        ({"synonyms": {"couch": ("sofa",), "sofa": ("couch",)}}, "in a circle"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParsingConfig(**settings)
