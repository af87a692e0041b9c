"""A small trained spaCy pipeline, made here from template sentences whose parse is known."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed, minibatch

NUM_SENTENCES, NUM_ROUNDS, BATCH, LEARNING_RATE = 120, 6, 8, 0.005
POS = {
    **dict.fromkeys(("NN", "NNS"), "NOUN"),
    **dict.fromkeys(("VBG", "VBZ", "VBP"), "VERB"),
    "NNP": "PROPN",
    "DT": "DET",
    "JJ": "ADJ",
    "IN": "ADP",
    "CC": "CCONJ",
    "CD": "NUM",
    "EX": "PRON",
    "PRP": "PRON",
    "POS": "PART",
    ".": "PUNCT",
}
PEOPLE = ("man", "woman", "boy", "girl")
THINGS = ("dog", "cat", "horse", "bus", "train", "boat", "kite", "ball", "table", "bench", "couch", "laptop", "lamp")
HEADS = (*PEOPLE, *THINGS)
PLURALS = {"man": "men", "woman": "women", "bus": "buses", "bench": "benches", "couch": "couches"}
COMPOUNDS = ("street", "kitchen", "traffic", "tennis", "fire", "wine", "teddy", "stop", "train", "coffee")
ADJECTIVES = ("red", "blue", "small", "wooden", "old", "striped", "green", "large", "hot", "other")
PREPOSITIONS = ("on", "near", "under", "behind", "beside", "with", "past")
PLACES = ("Paris", "London", "Boston", "Texas")


class Word(NamedTuple):
    """A token: head is the position of its governor within its phrase, -1 where the phrase hangs on another."""

    text: str
    tag: str
    dep: str
    head: int


class Sentences:
    """Draws sentences and their parses; each phrase is a list of words, hung onto others by `_hang`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words: list[Word] = []

    def sentence(self) -> list[Word]:
        """One sentence; heads are positions in it, that of the root its own."""
        self._words = []
        shape = self._random.choice((self._caption, self._clause, self._there_are, self._pair, self._owned))
        shape()
        root = next(at for at, word in enumerate(self._words) if word.dep == "ROOT")
        if self._random.random() < 0.5:
            self._words.append(Word(".", ".", "punct", root))
        if self._random.random() < 0.5:
            self._words[0] = self._words[0]._replace(text=self._words[0].text.capitalize())
        return [word._replace(head=at) if word.dep == "ROOT" else word for at, word in enumerate(self._words)]

    def _caption(self) -> None:
        """A man riding a horse; a dog on a couch."""
        root = self._noun_phrase("ROOT", -1)
        if self._random.random() < 0.5:
            verb = self._add(self._random.choice(("riding", "holding", "chasing")), "VBG", "acl", root)
            self._noun_phrase("dobj", verb)
        self._prepositional(root)

    def _clause(self) -> None:
        """A dog chases a ball near a bench."""
        subject = self._noun_phrase("nsubj", -1)
        verb = self._add(self._random.choice(("holds", "chases", "sees", "passes")), "VBZ", "ROOT", -1)
        self._hang(subject, verb)
        self._noun_phrase("dobj", verb)
        self._prepositional(verb)

    def _there_are(self) -> None:
        """There are two boats near a bus."""
        verb = len(self._words) + 1
        self._add("there", "EX", "expl", verb)
        self._add("are", "VBP", "ROOT", -1)
        self._plural("attr", verb)
        self._prepositional(verb)

    def _pair(self) -> None:
        """A cat and a dog."""
        first = self._noun_phrase("ROOT", -1)
        self._add("and", "CC", "cc", first)
        self._noun_phrase("conj", first)
        self._prepositional(first)

    def _owned(self) -> None:
        """The man's hat in London."""
        owner = self._add("the", "DT", "det", len(self._words) + 1) + 1
        self._add(self._random.choice(HEADS), "NN", "poss", owner + 2)
        self._add("'s", "POS", "case", owner)
        self._add(self._random.choice(HEADS), "NN", "ROOT", -1)
        marker = self._add("in", "IN", "prep", owner + 2)
        self._add(self._random.choice(PLACES), "NNP", "pobj", marker)

    def _prepositional(self, head: int) -> None:
        marker = self._add(self._random.choice(PREPOSITIONS), "IN", "prep", head)
        if self._random.random() < 0.1:
            self._add(self._random.choice(("it", "them")), "PRP", "pobj", marker)
        else:
            self._noun_phrase("pobj", marker)

    def _noun_phrase(self, dep: str, head: int) -> int:
        return self._phrase(self._random.choice(("a", "the")), "DT", "det", "NN", dep, head)

    def _plural(self, dep: str, head: int) -> int:
        return self._phrase(self._random.choice(("two", "three", "many")), "CD", "nummod", "NNS", dep, head)

    def _phrase(self, first: str, first_tag: str, first_dep: str, tag: str, dep: str, head: int) -> int:
        drawn = self._random
        adjectives = [drawn.choice(ADJECTIVES)] if drawn.random() < 0.4 else []
        compounds = [drawn.choice(COMPOUNDS)] if drawn.random() < 0.4 else []
        own = len(self._words) + 1 + len(adjectives) + len(compounds)
        self._add(first, first_tag, first_dep, own)
        for adjective in adjectives:
            self._add(adjective, "JJ", "amod", own)
        for compound in compounds:
            self._add(compound, "NN", "compound", own)
        noun = drawn.choice(HEADS)
        return self._add(PLURALS.get(noun, noun + "s") if tag == "NNS" else noun, tag, dep, head)

    def _add(self, text: str, tag: str, dep: str, head: int) -> int:
        self._words.append(Word(text, tag, dep, head))
        return len(self._words) - 1

    def _hang(self, word: int, head: int) -> None:
        self._words[word] = self._words[word]._replace(head=head)


def document(nlp: Language, words: list[Word]) -> Doc:
    """The parsed document of a sentence."""
    return Doc(
        nlp.vocab,
        words=[word.text for word in words],
        tags=[word.tag for word in words],
        pos=[POS[word.tag] for word in words],
        heads=[word.head for word in words],
        deps=[word.dep for word in words],
    )


def train_pipeline(seed: int = 0) -> Language:
    """A pipeline with tagger, attribute ruler, morphologizer and parser on one tok2vec of width 32."""
    fix_random_seed(seed)
    nlp = spacy.blank("en")
    nlp.meta["name"], nlp.meta["version"] = "templates", "1.2.3"
    encoder = {"@architectures": "spacy.HashEmbedCNN.v2", "width": 32, "depth": 2, "embed_size": 500}
    encoder |= {"window_size": 1, "maxout_pieces": 2, "subword_features": True, "pretrained_vectors": None}
    nlp.add_pipe("tok2vec", config={"model": encoder})
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 32}
    for name, settings in (("tagger", {}), ("morphologizer", {}), ("parser", {"min_action_freq": 1})):
        model = nlp.get_factory_meta(name).default_config["model"]
        nlp.add_pipe(name, config={"model": {**model, "tok2vec": listener}, **settings})
    drawn = Sentences(seed)
    documents = [document(nlp, drawn.sentence()) for _ in range(NUM_SENTENCES)]
    examples = [Example(Doc(nlp.vocab, words=[token.text for token in each]), each) for each in documents]
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = LEARNING_RATE
    for _ in range(NUM_ROUNDS):
        for batch in minibatch(examples, BATCH):
            nlp.update(batch, sgd=optimizer)
    return nlp


@pytest.fixture(scope="session")
def trained_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small English pipeline that knows the words and sentences of `Sentences`."""
    folder = tmp_path_factory.mktemp("pipeline") / "en_templates"
    train_pipeline().to_disk(folder)
    return folder


@pytest.fixture(scope="session")
def held_out_sentences() -> list[tuple[str, list[str]]]:
    """Sentences that the pipeline was not trained on, with the surfaces of their noun phrases."""
    drawn = Sentences(seed=1)
    sentences = [drawn.sentence() for _ in range(60)]
    return [(" ".join(word.text for word in words), _surfaces(words)) for words in sentences]


def _surfaces(words: list[Word]) -> list[str]:
    heads = [at for at, word in enumerate(words) if word.tag.startswith("NN") and word.dep != "compound"]
    compounds = [[word.text for word in words if word.dep == "compound" and word.head == at] for at in heads]
    return [" ".join((*before, words[at].text)).lower() for at, before in zip(heads, compounds, strict=True)]
