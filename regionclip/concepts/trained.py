"""Noun phrases from a trained spaCy pipeline, and where such pipelines are found."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span, Token
from spacy.util import load_config, minibatch

from regionclip.concepts import lexicon
from regionclip.concepts.mentions import Mention
from regionclip.concepts.naming import Naming, singular_name
from regionclip.digests import file_sha256

BATCH_SIZE = 256  # captions; part of the result where a pipeline pads its batches
CAPTIONS_OF_A_ZONE = 16 * BATCH_SIZE  # after which the words that they brought are forgotten
_UNUSED = frozenset(
    ("ner", "entity_ruler", "entity_linker", "lemmatizer", "trainable_lemmatizer", "textcat", "textcat_multilabel")
)
_META, _CONFIG = "meta.json", "config.cfg"
_OBJECT_LABELS = frozenset(("dobj", "pobj"))  # without them spaCy's noun chunks are subjects alone
_NOUNS = frozenset(("NOUN", "PROPN"))
_POS_OF_TAG = {"NN": "NOUN", "NNS": "NOUN", "NNP": "PROPN", "NNPS": "PROPN", "PRP": "PRON"}
_NO_ATTRIBUTES = lexicon.DETERMINERS | lexicon.MODIFIERS


class TrainedParser:
    """Finds the noun phrases that a trained English pipeline sees; its name is 'spacy:en_core_web_sm-3.8.0'.

    A phrase is the root of a noun chunk, or a possessor in one, that is a noun, with the compound directly before it.
    attributes: takes the adjective before the compound as well (see `Naming.mention`).
    The captions of one call go through the pipeline in batches of `BATCH_SIZE`, counted from the first: batches, like
    parts, do not depend on how parts are spread. Pipelines of spaCy's own layers give the same bits whatever the
    batch; those that pad (transformers) need not.
    Raises ValueError for a pipeline without a parser or without a tagger or morphologizer, and for one whose parser
    has other labels than those that spaCy's noun chunks are made from.
    """

    folds = True

    def __init__(self, pipeline: Language, naming: Naming | None = None, attributes: bool = False) -> None:
        meta = pipeline.meta
        self.name = f"spacy:{meta['lang']}_{meta['name']}-{meta['version']}"
        factories = {name: pipeline.get_pipe_meta(name).factory for name in pipeline.pipe_names}
        if missing := missing_component(factories.values()):
            raise ValueError(f"pipeline {self.name} has no {missing}; take one that has, such as en_core_web_sm")
        parsers = [pipeline.get_pipe(name) for name, factory in factories.items() if factory == "parser"]
        if not any(_OBJECT_LABELS.intersection(parser.labels) for parser in parsers):
            raise ValueError(
                f"the parser of {self.name} knows none of the labels {', '.join(sorted(_OBJECT_LABELS))}, from which "
                "noun chunks are made; take a pipeline with spaCy's own English labels"
            )
        self._unused = [name for name, factory in factories.items() if factory in _UNUSED]
        self._pipeline, self._naming, self._attributes = pipeline, naming or Naming(), attributes

    def mentions(self, captions: Iterable[str]) -> Iterator[list[Mention]]:
        """The noun phrases of each caption in order, repeated ones repeated."""
        for some in minibatch(captions, CAPTIONS_OF_A_ZONE):
            with self._pipeline.memory_zone():
                docs = self._pipeline.pipe(some, batch_size=BATCH_SIZE, disable=self._unused)
                found = [list(self._mentions(doc)) for doc in docs]
            yield from found

    def _mentions(self, doc: Doc) -> Iterator[Mention]:
        if not any(token.pos for token in doc):
            for token in doc:
                token.pos_ = _POS_OF_TAG.get(token.tag_, "X")
        for chunk in doc.noun_chunks:
            for token in chunk:
                if token.pos_ in _NOUNS and _is_word(token) and (token.i == chunk.end - 1 or token.dep_ == "poss"):
                    start = _compound_start(doc, chunk.start, token)
                    attribute = self._attribute(doc[chunk.start : start])
                    yield self._naming.mention([word.lower_ for word in doc[start : token.i + 1]], attribute)

    def _attribute(self, before: Span) -> str:
        """The attribute among the words of a chunk before its compound: the adjective that stands last."""
        if not self._attributes or not before:
            return ""
        word = before[-1]
        return word.lower_ if word.dep_ == "amod" and _is_word(word) and word.lower_ not in _NO_ATTRIBUTES else ""


def missing_component(factories: Iterable[str]) -> str:
    """What a pipeline of these components lacks for noun phrases; empty when nothing."""
    there = set(factories)
    if "parser" not in there:
        return "parser"
    return "" if there & {"tagger", "morphologizer"} else "tagger or morphologizer"


@dataclass(frozen=True)
class PipelineFiles:
    """A trained pipeline on disk: the folder that holds its config and weights, and how it calls itself.

    source: what spaCy loads, the name of an installed package or the folder. A folder is to be trusted as a package is:
    spaCy imports no file of it and refuses a config that names an unregistered function, but the config may call any
    function that installed packages register. Weights of spaCy's layers are msgpack; those of PyTorch layers are read
    by `torch.load`, which takes tensors alone unless it is told otherwise.
    """

    source: str
    folder: Path
    name: str
    version: str

    def load(self) -> Language:
        """The pipeline; ValueError when spaCy cannot load it."""
        try:
            return spacy.load(self.source)
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"pipeline {self.source} cannot be loaded ({reason}); download or save it again with spaCy "
                f"{spacy.__version__}"
            ) from error

    def factories(self) -> set[str]:
        """The kinds of its enabled components, read from its config alone."""
        config = load_config(self.folder / _CONFIG)
        enabled = set(config["nlp"]["pipeline"]) - set(config["nlp"]["disabled"])
        return {config["components"][name].get("factory", "") for name in enabled}

    def sha256(self) -> str:
        """The sha256 (hex) of the names and contents of its files; not of where they are."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        digest = hashlib.sha256()
        for path in files:
            digest.update(f"{path.relative_to(self.folder).as_posix()} {file_sha256(path)}\n".encode())
        return digest.hexdigest()


def installed_pipelines() -> list[str]:
    """Names of the trained pipelines that are installed as packages, sorted; none is imported for that."""
    return sorted({entry.name for entry in entry_points(group="spacy_models")})


def find_pipeline(pipeline: str) -> PipelineFiles | None:
    """An installed pipeline of this name, or else one in a folder of this path; None when there is neither."""
    if pipeline in installed_pipelines():
        spec = importlib.util.find_spec(pipeline)
        if spec is None or spec.origin is None:
            return None
        package = Path(spec.origin).parent
        meta = _meta(package)
        return _files(pipeline, package / f"{meta['lang']}_{meta['name']}-{meta['version']}", meta)
    folder = Path(pipeline).expanduser().resolve()
    if not all((folder / name).is_file() for name in (_META, _CONFIG)):
        return None
    return _files(str(folder), folder, _meta(folder))


def _files(source: str, folder: Path, meta: dict[str, str]) -> PipelineFiles:
    return PipelineFiles(source, folder, f"{meta['lang']}_{meta['name']}", meta["version"])


def _meta(folder: Path) -> dict[str, str]:
    path = folder / _META
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(meta[name]) for name in ("lang", "name", "version")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} describes no spaCy pipeline ({error!r}); download or save it again") from error


def _compound_start(doc: Doc, first: int, head: Token) -> int:
    """Where the compound before a head begins, at `first` or later."""
    start = int(head.i)
    while start > first and _is_word(doc[start - 1]):
        before, word = doc[start - 1], doc[start].lower_
        if before.dep_ != "compound" and f"{before.lower_} {singular_name([word])}" not in lexicon.PHRASES:
            break
        start -= 1
    return start


def _is_word(token: Token) -> bool:
    return bool(token.is_alpha) and len(token) > 1
