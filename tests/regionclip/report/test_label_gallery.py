"""Which images and regions are shown, and how they are drawn."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from regionclip.report.gallery import (
    MAX_BOXES,
    GalleryChoice,
    ShownImage,
    ShownRegion,
    choose_concepts,
    crop,
    draw,
    labelled_picture,
)
from regionclip.schemas import REGION_LABELS

CONCEPTS = ("cat", "cup", "gnu")
RED = "#ff0000"


def labels(first_id: int, num_images: int, seed: int = 0) -> pa.Table:
    random = np.random.default_rng([seed, first_id])
    rows: list[dict[str, Any]] = []
    for image_id in range(first_id, first_id + num_images):
        count = int(random.integers(0, 5))
        rows.append(
            {
                "image_id": image_id,
                "width": 64,
                "height": 64,
                "boxes": [[4.0 * index, 0.0, 4.0 * index + 20, 30.0] for index in range(count)],
                "concept_ids": [[int(random.integers(2))] for _ in range(count)],
                "log_probabilities": [[math.log(random.uniform(0.1, 1))] for _ in range(count)],
                "keep": (random.random(count) < 0.7).tolist(),
            }
        )
    return pa.Table.from_pylist(rows, schema=REGION_LABELS)


WHOLE = labels(0, 40)


def chosen(tables: list[pa.Table], seed: int = 5) -> GalleryChoice:
    choice = GalleryChoice([0, 1, 2], num_images=6, num_crops=4, seed=seed)
    for table in tables:
        choice.add(table)
    return choice


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_the_choice_hangs_on_the_seed_and_not_on_parts_or_their_order(order: list[int]) -> None:
    parts = [WHOLE.slice(0, 7), WHOLE.slice(7, 1), WHOLE.slice(8)]
    one, many = chosen([WHOLE]), chosen([parts[index] for index in order])
    assert one.images() == many.images()
    assert one.crops() == many.crops()
    assert one.image_ids() == many.image_ids()
    other = chosen([WHOLE], seed=6)
    assert other.images() != one.images()
    assert other.crops() != one.crops()


def test_only_kept_regions_of_the_concept_are_shown_and_each_once() -> None:
    crops = chosen([WHOLE]).crops()
    assert [len(crops[concept]) for concept in (0, 1, 2)] == [4, 4, 0]
    kept = {
        (row["image_id"], tuple(box), ids[0])
        for row in WHOLE.to_pylist()
        for box, ids, keep in zip(row["boxes"], row["concept_ids"], row["keep"], strict=True)
        if keep
    }
    for concept, regions in crops.items():
        assert len(set(regions)) == len(regions)
        assert {(region.image_id, region.box, concept) for region in regions} <= kept


def test_crops_are_not_only_the_best() -> None:
    regions = GalleryChoice([0], 1, 1000, 0)
    regions.add(WHOLE)
    everything = sorted((region.score for region in regions.crops()[0]), reverse=True)
    shown = [region.score for region in chosen([WHOLE]).crops()[0]]
    assert len(everything) > 8
    assert min(shown) < everything[4]


def test_images_are_shown_with_all_kept_regions_the_best_first() -> None:
    images = chosen([WHOLE]).images()
    assert len({image.image_id for image in images}) == 6
    kept = {row["image_id"]: sum(row["keep"]) for row in WHOLE.to_pylist()}
    for image in images:
        scores = [region.score for region in image.regions]
        assert len(scores) == kept[image.image_id]
        assert scores == sorted(scores, reverse=True)


def test_half_of_the_concepts_are_the_most_frequent_ones() -> None:
    kept_of = [0, 5, 100, 3, 2, 50, 8, 0, 1, 9]
    concepts = choose_concepts(kept_of, 5, seed=0)
    assert concepts[:3] == [2, 5, 9]
    assert len(set(concepts)) == 5
    assert all(kept_of[concept] for concept in concepts)
    assert {tuple(choose_concepts(kept_of, 5, seed)[3:]) for seed in range(9)} > {tuple(concepts[3:])}
    assert sorted(choose_concepts(kept_of, 99, 0)) == [1, 2, 3, 4, 5, 6, 8, 9]
    assert choose_concepts([0, 0], 4, 0) == []


def pixels(jpeg: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def test_of_boxes_of_one_concept_that_overlap_only_the_best_is_drawn() -> None:
    regions = (
        ShownRegion(1, (0, 0, 20, 20), 0, 0.9),
        ShownRegion(1, (2, 0, 22, 20), 0, 0.8),
        ShownRegion(1, (2, 0, 22, 20), 1, 0.7),
        ShownRegion(1, (40, 40, 60, 60), 0, 0.6),
    )
    picture = labelled_picture(Image.new("RGB", (64, 64)), ShownImage(1, regions), CONCEPTS, lambda _: RED)
    assert picture.shown == (("cat", 0.9), ("cup", 0.7), ("cat", 0.6))
    assert picture.more == 1
    many = tuple(ShownRegion(1, (0, 0, 20, 20), concept, 0.5) for concept in range(MAX_BOXES + 3))
    crowded = labelled_picture(Image.new("RGB", (64, 64)), ShownImage(1, many), "abcdefghijkl", lambda _: RED)
    assert (len(crowded.shown), crowded.more) == (MAX_BOXES, 3)


def test_a_crop_is_square_with_the_box_in_its_middle_and_grey_beside_the_image() -> None:
    image = Image.new("RGB", (100, 100), "#00ff00")
    cut = pixels(crop(image, ShownRegion(1, (0, 20, 20, 60), 0, 0.5), RED).jpeg)
    assert cut.shape[0] == cut.shape[1]
    side = len(cut)
    middle = side // 2
    assert (np.abs(cut[middle, middle] - [0, 255, 0]) < 30).all()
    assert np.ptp(cut[middle, 5]) < 40
    reds = (cut[..., 0] > 180) & (cut[..., 1] < 90)
    rows, columns = np.flatnonzero(reds.any(axis=1)), np.flatnonzero(reds.any(axis=0))
    assert (rows[-1] - rows[0]) / side == pytest.approx(40 / 52, abs=0.04)
    assert (columns[-1] - columns[0]) / side == pytest.approx(20 / 52, abs=0.04)


def test_images_that_cannot_be_read_are_left_out_and_each_is_opened_once() -> None:
    choice, opened = chosen([WHOLE]), []
    bad = choice.images()[0].image_id

    def read(image_id: int) -> Image.Image:
        opened.append(image_id)
        if image_id == bad:
            raise ValueError("no such file")
        return Image.new("RGB", (64, 64))

    drawn = draw(choice, read, CONCEPTS, lambda _: RED)
    assert drawn.unreadable == {bad: "no such file"}
    assert [picture.image_id for picture in drawn.images] == [image.image_id for image in choice.images()[1:]]
    assert opened == choice.image_ids()
    for concept, regions in choice.crops().items():
        shown = [(each.image_id, each.score) for each in drawn.crops[concept]]
        assert shown == [(region.image_id, region.score) for region in regions if region.image_id != bad]


def test_the_crop_of_a_very_tall_image_needs_no_square_of_its_height() -> None:
    tall = Image.new("RGB", (100, 60_000), (0, 0, 255))  # 18 MB; its square would have 14 GB
    cut = pixels(crop(tall, ShownRegion(1, (0, 0, 100, 60_000), 0, 0.5), RED).jpeg)
    assert cut.shape[0] == cut.shape[1]
    assert cut[cut.shape[0] // 2, 10].std() < 12  # grey beside the image
