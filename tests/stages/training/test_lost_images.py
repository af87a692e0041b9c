"""What may be lost on the way to region features, and what may not: a disk's failure, features that are no numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regionclip.images import ResizeConfig
from regionclip.place_errors import PlaceError
from stages import encode_regions
from stages.contract import Artifact
from stages.encode_regions import EncodeConfig
from stages.listed_images import ImageFolder
from stages.parts import read_table

CONFIG = EncodeConfig(num_regions=4, resize=ResizeConfig("pretraining", 64, 96), part_size=5, max_rejected_fraction=0.5)


@pytest.fixture
def inputs(world: Any) -> dict[str, Artifact]:
    return {"images": world["train_images"], "proposals": world["train_proposals"], "clip": world["clip"]}


def test_an_image_is_not_given_up_for_a_disk_that_fails_once(
    world: Any, inputs: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = world.run(encode_regions.STAGE, CONFIG, "undisturbed", **inputs)
    read = ImageFolder.read

    def fail(folder: ImageFolder, name: str) -> bytes:
        if name == "7.png":
            raise PlaceError(f"{name} cannot be read (timed out)")
        return read(folder, name)

    monkeypatch.setattr(ImageFolder, "read", fail)
    with pytest.raises(PlaceError, match=r"7\.png cannot be read \(timed out\)"):
        world.run(encode_regions.STAGE, CONFIG, "disturbed", **inputs)
    first = Path(world.lent("regions", "disturbed").folder.path("regions-00000.parquet"))
    done = first.stat().st_mtime_ns
    monkeypatch.setattr(ImageFolder, "read", read)
    after = world.run(encode_regions.STAGE, CONFIG, "disturbed", **inputs)
    assert read_table(after, "rejected").num_rows == 0
    assert first.stat().st_mtime_ns == done
    for name in undisturbed.folder.names():
        if name.endswith(".parquet"):
            assert after.folder.read(name) == undisturbed.folder.read(name)


def test_a_run_that_lost_too_much_goes_on_where_more_may_be_lost(
    world: Any, inputs: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ImageFolder.read

    def fail(folder: ImageFolder, name: str) -> bytes:
        if name == "7.png":
            raise ValueError("is no image")
        return read(folder, name)

    monkeypatch.setattr(ImageFolder, "read", fail)
    strict = replace(CONFIG, max_rejected_fraction=0.0)
    key = encode_regions.STAGE.key(strict, inputs)
    with pytest.raises(ValueError, match=r"1 of 12 items are rejected after 10.*raise max_rejected_fraction"):
        world.run(encode_regions.STAGE, strict, key, **inputs)
    first = Path(world.lent("regions", key).folder.path("regions-00000.parquet"))
    done = first.stat().st_mtime_ns
    regions = world.run(encode_regions.STAGE, CONFIG, encode_regions.STAGE.key(CONFIG, inputs), **inputs)
    assert first.stat().st_mtime_ns == done
    assert read_table(regions, "rejected").to_pylist() == [{"item": "7.png", "reason": "is no image"}]


def test_features_that_are_no_numbers_are_rejected_with_their_image(
    world: Any, inputs: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overflowing:
        width, least_side = 4, 1

        def region_features(self, images: torch.Tensor, boxes: list[torch.Tensor]) -> torch.Tensor:
            features = torch.ones(sum(map(len, boxes)), self.width)
            if images.shape[-1] == 96:  # every third image is wide
                features[0, 2] = torch.nan
            return features

    monkeypatch.setattr(encode_regions, "make_teacher", lambda *_: Overflowing())
    config = replace(CONFIG, max_rejected_fraction=1.0)
    context = world.lent("regions", "overflowing")
    one_a_time = replace(context, resources=replace(context.resources, batch_size=1))
    regions = world.run(encode_regions.STAGE, config, "overflowing", one_a_time, **inputs)
    rejected = read_table(regions, "rejected").to_pylist()
    assert [row["item"] for row in rejected] == [f"{number}.png" for number in (0, 3, 6, 9)]
    assert all("features that are not finite; try regions.teacher.precision" in row["reason"] for row in rejected)
    assert read_table(regions, "regions").num_rows == 8
