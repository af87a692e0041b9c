import io

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.clip_models import create_clip
from regionclip.images import ResizeConfig
from regionclip.training.clip import ClipTrainingConfig, train_clip
from regionclip.training.images import ImageFiles, TrainingImages
from regionclip.training.schedule import OptimizerConfig
from regionclip.training.session import LocalSession

CONSTANT = OptimizerConfig(name="adamw", learning_rate=1e-3, clip_norm=None, schedule="constant", warmup_steps=0)
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (250, 250, 250)}


def coloured_images(seen: list[str] | None = None) -> TrainingImages:
    def read(name: str) -> bytes:
        if seen is not None:
            seen.append(name)
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), COLOURS[name]).save(buffer, "PNG")
        return buffer.getvalue()

    return TrainingImages(ImageFiles(tuple(COLOURS), read), ResizeConfig("detection", 64, 64))


def config(num_steps: int, short_steps: int = 0) -> ClipTrainingConfig:
    return ClipTrainingConfig("rgc-rn-w16", num_steps, batch_size=4, short_steps=short_steps, optimizer=CONSTANT)


def test_images_find_their_captions() -> None:
    losses: list[float] = []
    session = LocalSession(log=lambda metrics, step: losses.append(metrics["loss_image_text"]))
    state = train_clip(session, config(10), coloured_images(), [[name] for name in COLOURS])
    assert losses[-1] < 0.8 * np.log(4)
    create_clip("rgc-rn-w16").load_state_dict(state)


def test_a_resumed_training_repeats_an_undisturbed_one() -> None:
    captions = [[name, f"a {name} picture", "a picture"] for name in COLOURS]
    whole = train_clip(LocalSession(), config(4), coloured_images(), captions)
    session = LocalSession()
    train_clip(session, config(2), coloured_images(), captions)
    resumed = train_clip(session, config(4), coloured_images(), captions)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_first_steps_see_only_the_shorter_captions() -> None:
    seen: list[str] = []
    captions = [["a red picture of nothing but red"], ["green"], ["a blue picture of nothing but blue"], ["white"]]
    train_clip(LocalSession(), config(1, short_steps=2), coloured_images(seen), captions)
    assert set(seen) == {"green", "white"}


def test_captions_that_do_not_fit_the_images_are_refused() -> None:
    with pytest.raises(ValueError, match="captions of 1 images for 4"):
        train_clip(LocalSession(), config(1), coloured_images(), [["red"]])
    with pytest.raises(ValueError, match="image 1 of 4 has no caption"):
        train_clip(LocalSession(), config(1), coloured_images(), [["red"], [], ["blue"], ["white"]])
