"""Train a small English spaCy pipeline (tags, parts of speech, parser) where no published one can be had.

    python benchmarks/train_pipeline.py --treebank en_ewt-ud-dev.conllu --out pipeline

The treebank is in the format of Universal Dependencies; every fifth sentence is held out and scored. The noun chunks of
spaCy read the labels of its own pipelines, so nominals with a case marker become its prepositional objects: the marker
hangs on the head of the nominal, the nominal on the marker.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import spacy
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed, minibatch

SEED, HELD_OUT, BATCH = 0, 5, 24
_LABELS = {"obj": "dobj", "iobj": "dative", "nsubj:pass": "nsubjpass", "root": "ROOT", "flat": "compound"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--treebank", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--width", type=int, default=96, help="of word vectors; 32 with depth 1 is for timing alone")
    parser.add_argument("--depth", type=int, default=4, help="layers over the word vectors")
    arguments = parser.parse_args()
    fix_random_seed(SEED)
    nlp = spacy.blank("en", config={"nlp": {"batch_size": 256}})
    nlp.meta["name"], nlp.meta["version"] = "ud_small", "1.0.0"
    nlp.add_pipe("tok2vec", config={"model": tok2vec(arguments.width, arguments.depth)})
    for name in ("tagger", "morphologizer", "parser"):
        listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": arguments.width}
        model = {**nlp.get_factory_meta(name).default_config["model"], "tok2vec": listener}
        if "hidden_width" in model:
            model["hidden_width"] = min(64, arguments.width)
        nlp.add_pipe(name, config={"model": model})
    examples = [Example(Doc(nlp.vocab, words=list(doc_words(doc))), doc) for doc in sentences(nlp, arguments.treebank)]
    train = [example for number, example in enumerate(examples) if number % HELD_OUT]
    held_out = [example for number, example in enumerate(examples) if number % HELD_OUT == 0]
    optimizer = nlp.initialize(lambda: train)
    order = random.Random(SEED)
    for epoch in range(arguments.epochs):
        order.shuffle(train)
        losses: dict[str, float] = {}
        for batch in minibatch(train, BATCH):
            nlp.update(batch, sgd=optimizer, losses=losses, drop=0.1)
        print(f"epoch {epoch + 1}/{arguments.epochs}  {losses}", flush=True)
    scores = nlp.evaluate(held_out)
    print({name: round(float(scores[name]), 3) for name in ("tag_acc", "pos_acc", "dep_uas", "dep_las")})
    nlp.to_disk(arguments.out)


def tok2vec(width: int, depth: int) -> dict[str, Any]:
    """The config of the word vectors that all components share."""
    return {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": {
            "@architectures": "spacy.MultiHashEmbed.v2",
            "width": width,
            "attrs": ["NORM", "PREFIX", "SUFFIX", "SHAPE"],
            "rows": [5000, 1000, 2500, 2500],
            "include_static_vectors": False,
        },
        "encode": {
            "@architectures": "spacy.MaxoutWindowEncoder.v2",
            "width": width,
            "window_size": 1,
            "maxout_pieces": 3,
            "depth": depth,
        },
    }


def doc_words(doc: Doc) -> Iterator[str]:
    return (token.text for token in doc)


def sentences(nlp: spacy.Language, path: Path) -> Iterator[Doc]:
    """The sentences of a CoNLL-U file as documents with tags, heads and spaCy's labels."""
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        rows = [line.split("\t") for line in block.split("\n") if line[:1].isdigit()]
        rows = [row for row in rows if row[0].isdigit()]
        heads = [int(row[6]) - 1 if int(row[6]) else index for index, row in enumerate(rows)]
        labels = [_LABELS.get(row[7], row[7].partition(":")[0]) for row in rows]
        for index, row in enumerate(rows):
            nominal = heads[index]
            if row[7] == "case" and labels[nominal] in ("obl", "nmod"):
                heads[index], labels[index] = heads[nominal], "prep"
                heads[nominal], labels[nominal] = index, "pobj"
        yield Doc(
            nlp.vocab,
            words=[row[1] for row in rows],
            tags=[row[4] for row in rows],
            pos=[row[3] for row in rows],
            heads=heads,
            deps=labels,
        )


if __name__ == "__main__":
    main()
