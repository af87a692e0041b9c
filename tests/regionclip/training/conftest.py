from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import CLIP
from PIL import Image

from regionclip.clip_models import create_clip
from regionclip.grouped import Grouped
from regionclip.images import ResizeConfig
from regionclip.training import loop
from regionclip.training.images import ImageFiles
from regionclip.training.pretrain import PretrainArguments, PretrainConfig
from regionclip.training.schedule import OptimizerConfig
from regionclip.training.session import LocalSession

NUM_IMAGES, REGIONS, CONCEPTS = 6, 5, 7


def seeded_clip() -> CLIP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return create_clip("rgc-test-rn")


def random_image(name: str) -> bytes:
    """A PNG whose pixels follow from its name."""
    pixels = np.random.default_rng(int(name)).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def image_files(count: int) -> ImageFiles:
    return ImageFiles([str(index) for index in range(count)], random_image)


def arguments_of(clip: CLIP, **config: Any) -> PretrainArguments:
    """Six random images of five kept regions each, two captions each, a pool of seven concepts."""
    rng = np.random.default_rng(0)
    num_regions = NUM_IMAGES * REGIONS
    corners = rng.uniform(0, 30, (num_regions, 2))
    logits = torch.randn(num_regions, CONCEPTS, generator=torch.Generator().manual_seed(1))
    top = logits.log_softmax(dim=1).topk(3, dim=1)
    regions = Grouped(
        np.arange(NUM_IMAGES + 1) * REGIONS,
        {
            "boxes": np.hstack([corners, corners + rng.uniform(12, 30, (num_regions, 2))]).astype(np.float32),
            "concept_ids": top.indices.int().numpy(),
            "log_probabilities": top.values.numpy(),
            "keep": np.ones(num_regions, dtype=bool),
        },
    )
    defaults = PretrainConfig(
        temperature=0.1,
        batch_size=4,
        num_steps=5,
        optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=2, schedule="constant"),
        regions_per_image=3,
        resize=ResizeConfig("pretraining", 64, 64),
    )
    return PretrainArguments(
        config=replace(defaults, **config),
        clip=copy.deepcopy(clip),
        concept_embeddings=torch.randn(CONCEPTS, 32, generator=torch.Generator().manual_seed(2)),
        images=image_files(NUM_IMAGES),
        regions=regions,
        captions=Grouped(np.arange(NUM_IMAGES + 1) * 2, {"index": np.arange(2 * NUM_IMAGES)}),
        texts=[f"a photo of {index} cups" for index in range(2 * NUM_IMAGES)],
    )


@pytest.fixture(scope="session")
def start() -> CLIP:
    torch.set_num_threads(1)
    return seeded_clip()


@pytest.fixture
def pretrain_arguments(start: CLIP) -> Callable[..., PretrainArguments]:
    """Arguments of a small pretraining, with changes to its config."""
    return lambda **config: arguments_of(start, **config)


@pytest.fixture
def random_images() -> ImageFiles:
    return image_files(NUM_IMAGES)


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalSession:
    """A session that keeps step 2 in `tmp_path` and is interrupted at step 3."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(loop, "LOG_EVERY", 3)

    def stop(metrics: Mapping[str, float], step: int) -> None:
        raise KeyboardInterrupt

    return LocalSession(tmp_path, log=stop)
