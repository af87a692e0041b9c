"""How well a parser finds what captions name: against a treebank, hand-judged captions and the classes of photos."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lemminflect import getAllInflections

from regionclip.concepts.mentions import Mention, Parser
from regionclip.concepts.naming import endings, normalize
from regionclip.concepts.vocabularies import OTHER_WORDS

TREEBANK = "text/en_ewt-ud-dev.conllu"
COCO_CAPTIONS = "captions/coco_captions_val2017.json"
CC3M_CAPTIONS = "captions/cc3m_validation_8000.tsv"
COCO_PHOTOS = "coco_mini/annotations"
GOLD = Path(__file__).parent / "gold"
SPLITS = ("dev", "test")
TREEBANK_RULE = (
    "head = token with UPOS NOUN or PROPN whose relation is none of compound, flat, fixed, goeswith (their subtypes "
    "too); of a name of flat parts that is the first word. Compared as written, in lower case, as multisets a sentence."
)
CLASS_RULE = (
    "of the (photo, class) pairs with a box where one of the photo's captions holds the class name, its plural or a "
    "documented other word as a word: the share whose class is a mention of these captions, or an ending of one."
)
_NO_HEADS = frozenset(("compound", "flat", "fixed", "goeswith"))


@dataclass
class Score:
    """Counts over texts, compared as multisets a text, and what was missed or falsely found how often."""

    correct: int = 0
    found: int = 0
    gold: int = 0
    missed: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)

    def add(self, found: Iterable[str], gold: Iterable[str]) -> None:
        ours, theirs = Counter(found), Counter(gold)
        self.correct += (ours & theirs).total()
        self.found += ours.total()
        self.gold += theirs.total()
        self.missed += theirs - ours
        self.false += ours - theirs

    def result(self) -> dict[str, float]:
        """Micro precision, recall and F1 (0 for none), and the number of gold items."""
        precision = self.correct / self.found if self.found else 0.0
        recall = self.correct / self.gold if self.gold else 0.0
        f1 = 2 * self.correct / (self.found + self.gold) if self.correct else 0.0
        return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4), "gold": self.gold}


@dataclass(frozen=True)
class Judged:
    """A caption with its hand-judged mentions: (concept, head, whether it is a frame word)."""

    source: str
    text: str
    mentions: tuple[tuple[str, str, bool], ...]
    doubt: bool


def score_treebank(parser: Parser, data: Path) -> Score:
    """The heads of a treebank's sentences (`TREEBANK_RULE`); the parser reads the plain text of each sentence."""
    sentences = list(read_treebank(data / TREEBANK))
    score = Score()
    for (_, gold), mentions in zip(sentences, parser.mentions(text for text, _ in sentences), strict=True):
        score.add((mention.surface.split(" ")[-1] for mention in mentions), gold)
    return score


def read_treebank(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Text and noun-phrase heads of each sentence of a file in the format of Universal Dependencies."""
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        lines = block.split("\n")
        text = next(line.removeprefix("# text = ") for line in lines if line.startswith("# text = "))
        rows = [line.split("\t") for line in lines if not line.startswith("#")]
        yield text, [row[1].lower() for row in rows if row[0].isdecimal() and _is_head(row[3], row[7])]


def _is_head(part_of_speech: str, relation: str) -> bool:
    return part_of_speech in ("NOUN", "PROPN") and relation.partition(":")[0] not in _NO_HEADS


def score_judged(parser: Parser, captions: Sequence[Judged]) -> dict[str, Score]:
    """Heads of all mentions, and full names of those that are concepts, of hand-judged captions."""
    heads, concepts = Score(), Score()
    for caption, mentions in zip(captions, parser.mentions(caption.text for caption in captions), strict=True):
        heads.add((_last_part(mention.surface) for mention in mentions), (head for _, head, _ in caption.mentions))
        kept = (_name(concept) for concept, _, frame in caption.mentions if not frame)
        concepts.add((_name(mention.name) for mention in mentions if not mention.reason), kept)
    return {"heads": heads, "concepts": concepts}


def judged_results(parser: Parser, data: Path, split: str) -> dict[str, Any]:
    """Scores of one split by source, each with and without the captions in doubt."""
    captions = read_judged(GOLD / f"captions_{split}.jsonl", data)
    results = {}
    for name, belongs in _groups():
        scores = score_judged(parser, [caption for caption in captions if belongs(caption)])
        results[name] = {what: score.result() for what, score in scores.items()}
    return results


def _groups() -> list[tuple[str, Callable[[Judged], bool]]]:
    return [
        ("all", lambda caption: True),
        ("coco", lambda caption: caption.source == "coco"),
        ("cc3m", lambda caption: caption.source == "cc3m"),
        ("without doubt", lambda caption: not caption.doubt),
    ]


def read_judged(path: Path, data: Path) -> list[Judged]:
    """The hand-judged captions of a file with their texts."""
    coco = {row["id"]: row["caption"] for row in json.loads((data / COCO_CAPTIONS).read_text())["annotations"]}
    cc3m = [line.split("\t")[0] for line in (data / CC3M_CAPTIONS).read_text(encoding="utf-8").splitlines()]
    judged = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text = coco[row["id"]] if row["source"] == "coco" else cc3m[row["id"] - 1]
        mentions = tuple((mention[0], mention[1], "frame" in mention[2:]) for mention in row["mentions"])
        judged.append(Judged(row["source"], text, mentions, row["doubt"]))
    return judged


def _last_part(surface: str) -> str:
    return re.split(r"[ -]", surface)[-1]


def _name(concept: str) -> str:
    """A name as parsers write it; a hyphen counts as a blank."""
    return normalize(concept.replace("-", " "))


def class_recall(parser: Parser, data: Path) -> tuple[dict[str, float], Counter[str]]:
    """Recall of the classes that captions name (`CLASS_RULE`), and how often each class was missed."""
    captions, present = _photos(data / COCO_PHOTOS)
    mentions = {image: list(parser.mentions(texts)) for image, texts in captions.items()}
    named, missed = 0, Counter[str]()
    for image, name in sorted(present):
        words = [name, *OTHER_WORDS.get(name, ())]
        if any(re.search(rf"\b({_forms(words)})\b", text.lower()) for text in captions[image]):
            named += 1
            missed[name] += not _finds({normalize(word) for word in words}, mentions[image])
    found = named - missed.total()
    return {"recall": round(found / named, 4), "named": named, "present": len(present)}, +missed


def _photos(folder: Path) -> tuple[dict[int, list[str]], set[tuple[int, str]]]:
    captions: dict[int, list[str]] = {}
    for row in json.loads((folder / "captions.json").read_text())["annotations"]:
        captions.setdefault(row["image_id"], []).append(row["caption"])
    instances = json.loads((folder / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in instances["categories"]}
    return captions, {(row["image_id"], names[row["category_id"]]) for row in instances["annotations"]}


def _forms(words: Iterable[str]) -> str:
    """A pattern of names and their plurals."""
    forms = set()
    for word in words:
        compound, blank, head = word.rpartition(" ")
        plurals = getAllInflections(head, "NOUN").get("NNS", ())
        forms |= {word, *(f"{compound}{blank}{plural}" for plural in plurals)}
    return "|".join(sorted(re.escape(form) for form in forms))


def _finds(names: set[str], captions: Iterable[Sequence[Mention]]) -> bool:
    return any(ending in names for mentions in captions for mention in mentions for ending in endings(mention.name))
