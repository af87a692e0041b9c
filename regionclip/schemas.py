"""The columns of every table, with their units and meaning in the field metadata.

Boxes are float32 [x1, y1, x2, y2] in pixels of the original image, with x2 = x1 + width and y2 = y1 + height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa

Storage = Literal["float16", "int8"]


def _field(name: str, type_: pa.DataType, about: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, type_, nullable=nullable, metadata={"about": about})


BOX = pa.list_(pa.float32(), 4)

_IMAGE_ID = _field("image_id", pa.int64(), "id of the image in its annotation file")
_SIZE = (
    _field("width", pa.int32(), "width of the original image; unit: pixels"),
    _field("height", pa.int32(), "height of the original image; unit: pixels"),
)
_URI = _field("uri", pa.string(), "where the image is, below the folder that the images' manifest calls 'images'")
_SHA256 = _field("sha256", pa.string(), "of the encoded bytes of the image that were read; hexadecimal")
_BOXES = (
    *_SIZE,
    _field("boxes", pa.list_(BOX), "xyxy of each proposal; unit: pixels of the original image"),
    _field("objectness", pa.list_(pa.float32()), "raw logit of each proposal; unit: none, may be negative"),
)

IMAGES = pa.schema(
    [_IMAGE_ID, _field("file_name", pa.string(), "path below the folder that the manifest calls 'images'"), *_SIZE]
)

PACKED_IMAGES = pa.schema(
    [
        *IMAGES,
        _field("uri", pa.string(), "where its source says that it is, below that folder", nullable=True),
        _field("sha256", pa.string(), "of the encoded bytes; hexadecimal", nullable=True),
        _field("key", pa.string(), "what its source calls it", nullable=True),
    ]
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

COUNTED = pa.struct([pa.field("name", pa.string(), nullable=False), pa.field("count", pa.int64(), nullable=False)])
EXAMPLE = pa.struct([pa.field("row", pa.int64(), nullable=False), pa.field("caption", pa.string(), nullable=False)])

_HEAD = _field("head", pa.string(), "the shortest name that the phrase may count as; its family")
_DOCUMENT_FREQUENCY = _field("document_frequency", pa.int64(), "captions that mention it; unit: captions")
_COUNT = _field("count", pa.int64(), "how often it is mentioned; unit: mentions")

PHRASE_GROUPS = pa.schema(
    [
        _HEAD,
        _field("phrases", pa.list_(pa.string()), "all phrases of the family that one caption mentions, sorted"),
        _field("document_frequency", pa.int64(), "captions that mention these and no others of it; unit: captions"),
    ]
)

PHRASES = pa.schema(
    [
        _HEAD,
        _field("phrase", pa.string(), "name: lower case, its last word singular"),
        _COUNT,
        _field("surface_forms", pa.list_(COUNTED), "ways captions write it; unit of counts: mentions"),
        _field("merged_from", pa.list_(COUNTED), "variants and synonyms that became it; unit of counts: mentions"),
        _field("parsers", pa.list_(pa.string()), "parsers that found it, sorted"),
        _field("examples", pa.list_(EXAMPLE), "the first captions that mention it, with their rows in the corpus"),
        _field("reason", pa.string(), "why it is no concept; empty when it is one"),
    ]
)

CONCEPTS = pa.schema(
    [
        _field("concept", pa.string(), "name"),
        _DOCUMENT_FREQUENCY,
        _COUNT,
        _field("surface_forms", pa.list_(pa.string()), "ways it is written, the most frequent first"),
        _field("examples", pa.list_(pa.string()), "the first captions that mention it"),
        _field("merged_from", pa.list_(pa.string()), "variants and synonyms that became it, the most frequent first"),
        _field("parser", pa.string(), "what found it, joined by '+': parsers, and 'list' for a listed name"),
    ]
)

THRESHOLDS = pa.schema(
    [
        _field("min_document_frequency", pa.int64(), "captions that must name a concept; unit: captions"),
        _field("concepts", pa.int64(), "size of the pool with it, before max_size; unit: concepts"),
    ]
)

DROPPED = pa.schema(
    [
        _field("name", pa.string(), "what captions mention and the pool lacks"),
        _DOCUMENT_FREQUENCY,
        _COUNT,
        _field("reason", pa.string(), "why the pool lacks it"),
        _field("sampled", pa.bool_(), "whether it stands for many more of this reason, drawn by a fixed seed"),
    ]
)

PROPOSALS = pa.schema([_IMAGE_ID, _URI, *_BOXES])
_REGIONS = (_IMAGE_ID, _URI, _SHA256, *_BOXES)

_CONCEPT_IDS = "rows of the pool (concepts.json), the likeliest first, per region"
_POOL = "over the whole pool"
_EVIDENCE = "null where labels come without a teacher"
REGION_LABELS = pa.schema(
    [
        *_REGIONS,
        _field("concept_ids", pa.list_(pa.list_(pa.int32())), _CONCEPT_IDS),
        _field(
            "log_probabilities",
            pa.list_(pa.list_(pa.float32())),
            "of those concepts, over the candidates of the image, which is what a student learns; unit: nat",
        ),
        _field("keep", pa.list_(pa.bool_()), "whether the region is confident enough to train on"),
        _field(
            "pool_log_probabilities",
            pa.list_(pa.list_(pa.float32())),
            f"of those concepts, {_POOL}; NaN where it was not kept; unit: nat; {_EVIDENCE}",
            nullable=True,
        ),
        _field(
            "log_normalizer",
            pa.list_(pa.float64()),
            f"log of the sum of exp(cosine / temperature) {_POOL}; unit: nat; {_EVIDENCE}",
            nullable=True,
        ),
        _field(
            "kept_mass",
            pa.list_(pa.float32()),
            f"probability {_POOL} of those concepts together; unit: none, 0 to 1; {_EVIDENCE}",
            nullable=True,
        ),
        _field("entropy", pa.list_(pa.float32()), f"{_POOL}; unit: nat; {_EVIDENCE}", nullable=True),
        _field(
            "margin",
            pa.list_(pa.float32()),
            f"probability {_POOL} of the first concept less that of the likeliest other; NaN where it was not kept; "
            f"unit: none, -1 to 1; {_EVIDENCE}",
            nullable=True,
        ),
        _field(
            "source",
            pa.list_(pa.string()),
            "who set label and keep: 'teacher', or 'sha256:...' of the file of corrections; null where not known",
            nullable=True,
        ),
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


def regions(width: int, storage: Storage = "float16") -> pa.Schema:
    """Columns of a regions table whose features have `width` numbers each; whole numbers of 8 bits have a scale."""
    about = "region feature of each proposal, by the teacher; unit: none"
    if storage == "float16":
        return pa.schema([*_REGIONS, _field("features", pa.list_(pa.list_(pa.float16(), width)), about)])
    features = _field("features", pa.list_(pa.list_(pa.int8(), width)), f"{about}; to be multiplied by `scale`")
    scale = _field("scale", pa.list_(pa.float32()), "what the numbers of each feature are multiplied by; unit: none")
    return pa.schema([*_REGIONS, features, scale])


def region_labels(about: Mapping[str, str]) -> pa.Schema:
    """`REGION_LABELS` with what the labels were made of as metadata of the file."""
    return REGION_LABELS.with_metadata(dict(about))


def rejected_table(rejected: Sequence[tuple[str, str]]) -> pa.Table:
    """A table (`REJECTED`) of (item, reason) pairs."""
    return pa.Table.from_pylist([{"item": item, "reason": reason} for item, reason in rejected], schema=REJECTED)
