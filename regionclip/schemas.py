"""The columns of every table, with their units and meaning in the field metadata.

Boxes are float32 [x1, y1, x2, y2] in pixels of the original image, with x2 = x1 + width and y2 = y1 + height.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa


def _field(name: str, type_: pa.DataType, about: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, type_, nullable=nullable, metadata={"about": about})


BOX = pa.list_(pa.float32(), 4)

_IMAGE_ID = _field("image_id", pa.int64(), "id of the image in its annotation file")
_SIZE = (
    _field("width", pa.int32(), "width of the original image; unit: pixels"),
    _field("height", pa.int32(), "height of the original image; unit: pixels"),
)
_PROPOSALS = (
    _IMAGE_ID,
    *_SIZE,
    _field("boxes", pa.list_(BOX), "xyxy of each proposal; unit: pixels of the original image"),
    _field("objectness", pa.list_(pa.float32()), "raw logit of each proposal; unit: none, may be negative"),
)

IMAGES = pa.schema(
    [_IMAGE_ID, _field("file_name", pa.string(), "path below the folder that the manifest calls 'images'"), *_SIZE]
)

CAPTIONS = pa.schema(
    [
        _field("image_id", pa.int64(), "id of the captioned image; null when unknown", nullable=True),
        _field("caption", pa.string(), "the text as given"),
    ]
)

BOXES = pa.schema(
    [
        _IMAGE_ID,
        _field("category", pa.string(), "class name"),
        _field("box", BOX, "xyxy; unit: pixels of the original image"),
        _field("is_crowd", pa.bool_(), "whether the box covers a crowd instead of one object"),
    ]
)

MENTIONS = pa.schema(
    [
        _field("caption", pa.string(), "the text as given"),
        _field("phrases", pa.list_(pa.string()), "noun phrases in order: compound and head, lower case, singular"),
        _field("surface_forms", pa.list_(pa.string()), "how the caption wrote each phrase, lower case"),
    ]
)

CONCEPTS = pa.schema(
    [
        _field("concept", pa.string(), "name"),
        _field("document_frequency", pa.int64(), "captions that mention it; unit: captions"),
        _field("count", pa.int64(), "how often it is mentioned; unit: mentions"),
        _field("surface_forms", pa.list_(pa.string()), "ways it is written, the most frequent first"),
        _field("examples", pa.list_(pa.string()), "the first captions that mention it"),
    ]
)

PROPOSALS = pa.schema(_PROPOSALS)

REGION_LABELS = pa.schema(
    [
        *_PROPOSALS,
        _field("concept_ids", pa.list_(pa.list_(pa.int32())), "rows of the pool, the likeliest first, per region"),
        _field("log_probabilities", pa.list_(pa.list_(pa.float32())), "of those rows, over the whole pool; unit: nat"),
        _field("keep", pa.list_(pa.bool_()), "whether the region is confident enough to train on"),
    ]
)

DETECTIONS = pa.schema(
    [
        _IMAGE_ID,
        _field("category", pa.string(), "class name"),
        _field("box", BOX, "xyxy; unit: pixels of the original image"),
        _field("score", pa.float32(), "class score; unit: none"),
    ]
)

REJECTED = pa.schema(
    [
        _field("item", pa.string(), "what was rejected: an image id, a file and line, a caption"),
        _field("reason", pa.string(), "why"),
    ]
)


def regions(width: int) -> pa.Schema:
    """Columns of a regions table whose features have `width` numbers each."""
    features = pa.list_(pa.list_(pa.float16(), width))
    return pa.schema([*_PROPOSALS, _field("features", features, "region feature of each proposal, by the teacher")])


def rejected_table(rejected: Sequence[tuple[str, str]]) -> pa.Table:
    """A table (`REJECTED`) of (item, reason) pairs."""
    return pa.Table.from_pylist([{"item": item, "reason": reason} for item, reason in rejected], schema=REJECTED)
