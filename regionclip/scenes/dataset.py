"""Writing scenes as a data set of standard COCO layout."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from regionclip.scenes.captions import Caption, CaptionConfig, write_caption
from regionclip.scenes.pictograms import BASE, CLASS_NAMES, NOVEL
from regionclip.scenes.render import Scene, SceneConfig, SceneObject, draw_scene


@dataclass(frozen=True)
class ScenesConfig:
    """A captioned and boxed collection; each image is a function of this config, its split and its index alone.

    num_images: images of each split, such as {"train": 2000, "val": 500, "test": 500}.
    jpeg_quality: 1..95.
    """

    num_images: Mapping[str, int] = field(default_factory=lambda: {"train": 2000, "val": 500, "test": 500})
    seed: int = 0
    num_captions: int = 2
    jpeg_quality: int = 90
    scene: SceneConfig = field(default_factory=SceneConfig)
    caption: CaptionConfig = field(default_factory=CaptionConfig)

    def __post_init__(self) -> None:
        if not self.num_images or min(self.num_images.values()) < 1:
            raise ValueError(f"num_images {dict(self.num_images)}: name at least one split, each with 1 image or more")


def make_scene(config: ScenesConfig, split: str, index: int) -> tuple[Scene, tuple[Caption, ...]]:
    """Image `index` of a split with its captions; a scene on which nothing could be placed is drawn anew."""
    rng = np.random.default_rng([config.seed, zlib.crc32(split.encode()), index])
    scene = draw_scene(config.scene, rng)
    while not scene.objects:
        scene = draw_scene(config.scene, rng)
    return scene, tuple(write_caption(scene, config.caption, rng) for _ in range(config.num_captions))


def write_scenes(
    config: ScenesConfig,
    write: Callable[[str, bytes], None],
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Mapping[str, float]:
    """Write `images/*.jpg`, `annotations/instances.json` and `annotations/captions.json`; counts and caption rates.

    write: takes a name relative to the data set and the file's bytes.
    advance: is told how many of all images are done.
    """
    total = sum(config.num_images.values())
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    named = absent = classes_shown = 0
    for image_id, (split, index) in enumerate(_plan(config), start=1):
        scene, written = make_scene(config, split, index)
        record = _image_record(image_id, split, index, config.scene.size)
        write(f"images/{record['file_name']}", jpeg_bytes(scene.image, config.jpeg_quality))
        images.append(record)
        for shown in scene.objects:
            boxes.append(_annotation(len(boxes) + 1, image_id, shown))
        for caption in written:
            captions.append({"id": len(captions) + 1, "image_id": image_id, "caption": caption.text})
        classes_shown += len(written) * len({shown.name for shown in scene.objects})
        named += sum(len(caption.named) for caption in written)
        absent += sum(caption.absent is not None for caption in written)
        advance(image_id, total)
    info = {"description": "Pictogram scenes", "base": list(BASE), "novel": list(NOVEL)}
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES, start=1)]
    instances = {"info": info, "images": images, "annotations": boxes, "categories": categories}
    write("annotations/instances.json", json.dumps(instances).encode())
    write("annotations/captions.json", json.dumps({"info": info, "images": images, "annotations": captions}).encode())
    return {
        "num_images": total,
        "num_boxes": len(boxes),
        "num_captions": len(captions),
        "mention_rate": named / classes_shown,
        "absent_rate": absent / len(captions),
    }


def jpeg_bytes(image: np.ndarray[Any, np.dtype[np.uint8]], quality: int) -> bytes:
    """A uint8 [H, W, 3] image as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _plan(config: ScenesConfig) -> Iterator[tuple[str, int]]:
    for split, count in config.num_images.items():
        for index in range(count):
            yield split, index


def _image_record(image_id: int, split: str, index: int, size: int) -> dict[str, Any]:
    name = f"{split}_{index + 1:06d}.jpg"
    return {"id": image_id, "file_name": name, "width": size, "height": size, "split": split}


def _annotation(number: int, image_id: int, shown: SceneObject) -> dict[str, Any]:
    x1, y1, x2, y2 = shown.box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": CLASS_NAMES.index(shown.name) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": shown.area,
        "segmentation": [],
        "iscrowd": 0,
    }
