"""Which parsers find the concepts of captions: config, choice and construction."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any, Literal, TypeAlias, get_args

from regionclip.concepts.listed import ListParser
from regionclip.concepts.mentions import MAX_WORDS, Parser
from regionclip.concepts.naming import Naming
from regionclip.concepts.ngrams import NgramsParser
from regionclip.concepts.rules import RulesParser
from regionclip.concepts.trained import (
    PipelineFiles,
    TrainedParser,
    find_pipeline,
    installed_pipelines,
    missing_component,
)

ParserName: TypeAlias = Literal["auto", "spacy", "rules", "ngrams", "list"]
PARSING = "parsing.json"  # how phrases were parsed, kept beside them
_LIBRARIES = ("spacy", "lemminflect")


@dataclass(frozen=True)
class ParsingConfig:
    """How captions are parsed.

    parsers: one or several, whose mentions are united. 'spacy' is a trained pipeline, 'rules' needs none, 'auto' takes
    the first of both that can be had; 'ngrams' takes all short runs of words, 'list' looks for `names` alone.
    pipeline: of 'spacy' and 'auto': an installed pipeline's name or a folder that holds one.
    synonyms: concept -> other words that are merged into it.
    attributes: 'spacy' and 'rules' name things with the adjective before them, 'red bus'; a rare one counts as 'bus'.
    max_words: of an n-gram.
    """

    parsers: tuple[ParserName, ...] = ("auto",)
    pipeline: str = "en_core_web_sm"
    names: tuple[str, ...] = ()
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attributes: bool = False
    max_words: int = MAX_WORDS

    def __post_init__(self) -> None:
        _check_parsers(self.parsers)
        _check_names(self.names, "list" in self.parsers)
        if self.max_words < 1:
            raise ValueError(f"max_words is {self.max_words}; an n-gram has 1 word or more")
        Naming(self.synonyms)


def make_parsers(config: ParsingConfig) -> list[Parser]:
    """The parsers of a config, in its order; raises ValueError for a pipeline that is missing or does not fit."""
    config, _ = resolve(config)
    naming = Naming(config.synonyms)
    return [_make(name, config, naming) for name in config.parsers]


def resolve(config: ParsingConfig) -> tuple[ParsingConfig, str]:
    """The config with 'auto' replaced by what can be had here, and a sentence that says which and why.

    A folder becomes an absolute path. Resolve once and hand the result to workers, which may stand elsewhere and have
    other pipelines installed.
    Raises ValueError when a pipeline that is asked for by 'spacy' is not there.
    """
    if "auto" in config.parsers:
        files, why = _automatic(config.pipeline)
        taken: ParserName = "spacy" if files else "rules"
        parsers = tuple(dict.fromkeys(taken if name == "auto" else name for name in config.parsers))
        return replace(config, parsers=parsers, pipeline=files.source if files else config.pipeline), f"auto: {why}"
    asked = f"{', '.join(config.parsers)}, as asked for"
    if "spacy" not in config.parsers:
        return config, asked
    files = _named(config)
    return replace(config, pipeline=files.source), f"{asked}, with the pipeline {files.name} {files.version}"


def identity(config: ParsingConfig) -> Mapping[str, Any]:
    """What of a config decides the phrases: the resolved parsers and the settings that these read.

    A pipeline enters by its name, version and content, never by its path. The versions of spaCy (its tokenizer and noun
    chunks) and of lemminflect (its lexicon gives every singular) enter in full: they are data of the result as much as
    the config is, and parsing anew costs less than phrases under the key of others.
    """
    config, _ = resolve(config)
    settings: dict[str, Any] = {
        "parsers": list(config.parsers),
        "synonyms": {concept: sorted(words) for concept, words in config.synonyms.items()},
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
    if {"spacy", "rules"} & set(config.parsers):
        settings["attributes"] = config.attributes
    if "ngrams" in config.parsers:
        settings["max_words"] = config.max_words
    if "list" in config.parsers:
        settings["names"] = list(config.names)
    if "spacy" in config.parsers:
        files = _named(config)
        settings["pipeline"] = {"name": files.name, "version": files.version, "sha256": files.sha256()}
    return settings


def _make(name: str, config: ParsingConfig, naming: Naming) -> Parser:
    if name == "spacy":
        return TrainedParser(_named(config).load(), naming, config.attributes)
    if name == "rules":
        return RulesParser(naming, config.attributes)
    if name == "ngrams":
        return NgramsParser(naming, config.max_words)
    assert name == "list", name
    return ListParser(config.names, naming)


def _named(config: ParsingConfig) -> PipelineFiles:
    files = find_pipeline(config.pipeline)
    if files is None:
        raise ValueError(
            f"spaCy pipeline '{config.pipeline}' is neither installed nor a folder with meta.json and config.cfg; run "
            f"'python -m spacy download {config.pipeline}', give the folder of a saved one, or take the parser 'rules'"
        )
    return files


def _automatic(wanted: str) -> tuple[PipelineFiles | None, str]:
    """The pipeline that 'auto' takes, None for the rules, and why."""
    if files := find_pipeline(wanted):
        return files, f"spacy, as the pipeline {files.name} {files.version} is there"
    for name in installed_pipelines():
        files = find_pipeline(name)
        if files and files.name.startswith("en_") and not missing_component(files.factories()):
            return files, f"spacy with the pipeline {files.name} {files.version}, as {wanted} is not installed"
    return None, f"rules, as no trained spaCy pipeline is installed ({wanted} was looked for)"


def _check_parsers(parsers: tuple[str, ...]) -> None:
    known = get_args(ParserName)
    if not parsers:
        raise ValueError(f"parsers is empty; name at least one of {', '.join(known)}")
    for name in parsers:
        if name not in known:
            close = ", ".join(difflib.get_close_matches(name, known, n=1)) or f"one of {', '.join(known)}"
            raise ValueError(f"no parser is named '{name}'; did you mean {close}?")
        if parsers.count(name) > 1:
            raise ValueError(f"parser '{name}' stands {parsers.count(name)} times in parsers; name it once")


def _check_names(names: tuple[str, ...], wanted: bool) -> None:
    if bool(names) != wanted:
        given = f"{len(names)} names and no parser 'list'" if names else "parser 'list' and no names"
        raise ValueError(f"{given}; names are what the parser 'list' looks for, give both or neither")
    seen: set[str] = set()
    for position, name in enumerate(names):
        if not name.strip() or not name.isprintable():
            raise ValueError(f"name {position} is {name!r}; give every concept a name of one printable line")
        if name in seen:
            raise ValueError(f"'{name}' stands twice in names; list every concept once")
        seen.add(name)
