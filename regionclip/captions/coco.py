"""COCO captions JSON, read as a stream: the images first, for their ids and splits, then the captions."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import ijson

from regionclip.captions.damage import DAMAGE
from regionclip.captions.files import CaptionFile
from regionclip.captions.rows import IdSet, ReadingConfig, Rejected, Row
from regionclip.coco import is_count
from regionclip.place_errors import PlaceError

_NO_TEXT = "\U0010ffff"  # a code point that no text has; stands for bytes that are not UTF-8
_ESCAPED = re.compile("[\udc80-\udcff]+")
_SPLITS_SHOWN = 10


def read_coco(source: CaptionFile, config: ReadingConfig) -> Iterator[Row | Rejected]:
    """The captions of a COCO captions file, only those of images in `config.split` if given.

    Raises ValueError for a file without images or annotations, one whose annotations have no caption, and a split
    that no image has.
    """
    images = _read_images(source, config.split)
    num_annotations = num_captions = num_selected = 0
    with source.open() as file:
        for annotation in ijson.items(_Utf8(file), "annotations.item", use_float=True):
            num_annotations += 1
            place = f": annotation record {num_annotations}"
            if not isinstance(annotation, dict) or not is_count(annotation.get("id")):
                yield Rejected(place, "no whole-number 'id'")
                continue
            num_captions += "caption" in annotation
            place, image_id = f": annotation {annotation['id']}", annotation.get("image_id")
            if not is_count(image_id) or image_id not in images.known:
                yield Rejected(place, f"image_id {image_id!r:.50}, which 'images' does not list")
                continue
            if image_id not in images.selected:
                continue
            num_selected += 1
            caption = annotation.get("caption")
            if isinstance(caption, str) and _NO_TEXT in caption:
                yield Rejected(place, "not UTF-8: it has bytes that are no text")
            elif "caption" not in annotation:
                yield Rejected(place, "no 'caption'")
            else:
                yield Row(place, caption, image_id, annotation["id"])
    _check_annotations(source, config.split, num_annotations, num_captions, num_selected)


@dataclass(frozen=True)
class _Images:
    """The image ids of a file, and those of the wanted split."""

    known: IdSet = field(default_factory=IdSet)
    selected: IdSet = field(default_factory=IdSet)


def _read_images(source: CaptionFile, split: str | None) -> _Images:
    images = _Images()
    images = _Images(images.known, images.known) if split is None else images
    splits: set[str] = set()
    num_images = num_selected = 0
    try:
        with source.open() as file:
            for image in ijson.items(_Utf8(file), "images.item", use_float=True):
                num_images += 1
                if not isinstance(image, dict) or not is_count(image.get("id")):
                    continue  # its captions are rejected as those of an unknown image
                images.known.add(image["id"])
                if split is None:
                    continue
                if not isinstance(image.get("split"), str):
                    raise ValueError(
                        f"{source.uri}: split '{split}' is asked but image {image['id']} has no 'split'; add it or set "
                        "split: null"
                    )
                if len(splits) < _SPLITS_SHOWN:
                    splits.add(image["split"])
                if image["split"] == split:
                    images.selected.add(image["id"])
                    num_selected += 1
    except PlaceError:
        raise
    except DAMAGE:
        return images  # the second reading comes to the same place, and rejects it
    if not num_images:
        raise ValueError(f"{source.uri}: not COCO, its list 'images' is missing or empty; give a COCO captions file")
    if split is not None and not num_selected:
        raise ValueError(f"{source.uri}: no image has the split '{split}'; choose one of {', '.join(sorted(splits))}")
    return images


def _check_annotations(
    source: CaptionFile, split: str | None, num_annotations: int, num_captions: int, num_selected: int
) -> None:
    if not num_annotations:
        raise ValueError(f"{source.uri}: empty dataset, its list 'annotations' has no records; give a file with some")
    if not num_captions:
        raise ValueError(f"{source.uri}: no annotation has a 'caption'; give a captions file, not an instances file")
    if split is not None and not num_selected:
        raise ValueError(f"{source.uri}: split '{split}' has no captions; choose another split")


class _Utf8:
    """A JSON stream in which bytes that are no UTF-8 are replaced, so that only their own row is lost."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")

    def read(self, size: int) -> bytes:
        text = ""
        while not text:
            data = self._file.read1(size)  # what is there, so that less is lost before damage
            text = self._decoder.decode(data, final=not data)
            if not data:
                break
        try:
            return text.encode()
        except UnicodeEncodeError:
            return _ESCAPED.sub(_NO_TEXT, text).encode()
