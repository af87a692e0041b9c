"""Class names that a pool is checked against: COCO's base and novel ones, those of annotation files, other words."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson

from regionclip.concepts.naming import normalize, singular_name
from regionclip.prompts import lvis_name

# The 48 base and 17 novel classes of open-vocabulary COCO, by ascending category id.
COCO_BASE = (
    *("person", "bicycle", "car", "motorcycle", "train", "truck", "boat", "bench", "bird", "horse", "sheep", "bear"),
    *("zebra", "giraffe", "backpack", "handbag", "suitcase", "frisbee", "skis", "kite", "surfboard", "bottle", "fork"),
    *("spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "pizza", "donut", "chair", "bed"),
    *("toilet", "tv", "laptop", "mouse", "remote", "microwave", "oven", "toaster", "refrigerator", "book", "clock"),
    *("vase", "toothbrush"),
)
COCO_NOVEL = (
    *("airplane", "bus", "cat", "dog", "cow", "elephant", "umbrella", "tie", "snowboard", "skateboard", "cup", "knife"),
    *("cake", "couch", "keyboard", "sink", "scissors"),
)

# Class -> word that captions use for the same thing -> why it is the same. Variants that naming merges by itself
# (doughnut, fridge, cellphone) need no entry. Kinds, parts and wider words have none either: a man is no other word
# for a person, a mug none for a cup, luggage none for a suitcase.
OTHER_WORDS: Mapping[str, Mapping[str, str]] = {
    "airplane": {"plane": "its short form"},
    "bicycle": {"bike": "its short form; captions call motorcycles so too"},
    "cell phone": {"phone": "its short form; captions call other telephones so too"},
    "cellular telephone": {"cell phone": "its short form", "phone": "its short form; also other telephones"},
    "couch": {"sofa": "the same seat"},
    "frisbee": {"flying disc": "the thing that the trade name stands for"},
    "handbag": {"purse": "the same bag in American English"},
    "motorcycle": {"motorbike": "the same vehicle"},
    "mouse": {"computer mouse": "its long form; the class is the device, not the animal"},
    "necktie": {"tie": "its short form"},
    "remote": {"remote control": "its long form"},
    "remote control": {"remote": "its short form"},
    "sofa": {"couch": "the same seat"},
    "tie": {"necktie": "its long form"},
    "tv": {"television": "its long form"},
}
WITHOUT_GLOSS = "its name without the gloss in brackets"
MERGED = "the form that naming merges it with"
FILE_SYNONYM = "a synonym that the class file lists"

COCO_GROUPS = ("coco_base", "coco_novel")
FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}  # of LVIS; its rare classes are the novel ones
SPLITS = ("seen", "unseen")
UNGROUPED = "classes"
FILE_GROUPS = (*FREQUENCIES.values(), *SPLITS, UNGROUPED)
RESERVED_GROUPS = frozenset((*COCO_GROUPS, *FILE_GROUPS))
NOVEL_GROUPS = frozenset(("novel", "coco_novel", "unseen", "rare"))

_GLOSS = re.compile(r"[ _]*\([^()]*\)")


@dataclass(frozen=True)
class ClassName:
    """A class as its list names it, with the synonyms that the list gives."""

    name: str
    synonyms: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """How a pool may write the class itself: with a singular head as concepts have, and as given in lower case."""
        return _written(lvis_name(self.name))

    @property
    def other_forms(self) -> dict[str, str]:
        """The class under another form of its own name -> why that is one: a merged variant, or without its gloss."""
        bare = _written(_GLOSS.sub("", self.name)) if "(" in self.name else []
        merged = {normalize(name) for name in (*self.names, *bare)}
        forms = {**dict.fromkeys(sorted(merged), MERGED), **dict.fromkeys(bare, WITHOUT_GLOSS)}
        return {form: why for form, why in forms.items() if form not in self.names}

    @property
    def other_words(self) -> dict[str, str]:
        """Further words for the class -> why each is one."""
        reasons = dict(self.other_forms)
        for name in (*self.names, *self.other_forms):
            reasons = {**OTHER_WORDS.get(name, {}), **reasons}
        for synonym in self.synonyms:
            reasons = {**dict.fromkeys(_written(_GLOSS.sub("", synonym)), FILE_SYNONYM), **reasons}
        return {word: reason for word, reason in reasons.items() if word not in self.names}


def _written(name: str) -> list[str]:
    words = name.lower().replace("_", " ").split()
    return list(dict.fromkeys((singular_name(words), " ".join(words)))) if words else []


def coco_groups() -> dict[str, tuple[ClassName, ...]]:
    """The base and novel classes of open-vocabulary COCO."""
    names = zip(COCO_GROUPS, (COCO_BASE, COCO_NOVEL), strict=True)
    return {group: tuple(map(ClassName, classes)) for group, classes in names}


def read_class_groups(path: Path) -> dict[str, tuple[ClassName, ...]]:
    """The classes of a COCO or LVIS annotation file, or of the bare list of its categories, by 'frequency' or 'split'.

    Without either they are one group, `UNGROUPED`. The file is read as a stream, once. Raises ValueError for a missing
    file, one that is not JSON or has no categories, a category without a name or listed twice, and an unknown frequency
    or split.
    """
    path = path.expanduser()
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a COCO or LVIS annotation file with 'categories'")
    status = path.stat()
    return _read_class_groups(path.resolve(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _read_class_groups(path: Path, size: int, changed_ns: int) -> dict[str, tuple[ClassName, ...]]:
    try:
        with path.open("rb") as file:
            where = "" if file.read(64).lstrip().startswith(b"[") else "categories"
            file.seek(0)
            categories = next(iter(ijson.items(file, where, use_float=True)), None)  # the rest is not read
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error}); give a COCO or LVIS annotation file") from error
    if not isinstance(categories, list) or not categories:
        raise ValueError(f"{path}: it has no list 'categories'; give a COCO or LVIS annotation file")
    seen: set[str] = set()
    groups: dict[str, list[ClassName]] = {}
    for category in categories:
        name = category.get("name") if isinstance(category, dict) else None
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{path}: category {category!r} has no 'name'; name every category")
        if name in seen:
            raise ValueError(f"{path}: category '{name}' stands twice; list every class once")
        seen.add(name)
        groups.setdefault(_group(path, category), []).append(ClassName(name, _synonyms(category, name)))
    return {group: tuple(groups[group]) for group in FILE_GROUPS if group in groups}


def _group(path: Path, category: Mapping[str, Any]) -> str:
    frequency, split = category.get("frequency"), category.get("split")
    if frequency is not None and frequency not in FREQUENCIES:
        raise ValueError(f"{path}: category '{category['name']}' has the frequency {frequency!r}; give r, c or f")
    if frequency is None and split is not None and split not in SPLITS:
        raise ValueError(f"{path}: category '{category['name']}' has the split {split!r}; give {' or '.join(SPLITS)}")
    return split or UNGROUPED if frequency is None else FREQUENCIES[frequency]


def _synonyms(category: Mapping[str, Any], name: str) -> tuple[str, ...]:
    listed: Iterable[object] = category.get("synonyms") or ()
    return tuple(word for word in listed if isinstance(word, str) and word.strip() and word != name)
