import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.scenes.captions import CaptionConfig, write_caption
from regionclip.scenes.pictograms import PICTOGRAMS
from regionclip.scenes.render import Scene, SceneConfig, SceneObject, draw_scene

FORMS = {pictogram.name: {pictogram.name, pictogram.plural, *(pictogram.synonym or ())} for pictogram in PICTOGRAMS}


def mentions(text: str, name: str) -> bool:
    return any(re.search(rf"\b{re.escape(form)}\b", text) for form in FORMS[name])


def scene_of(*names: str) -> Scene:
    boxes = [(40 * place, 0, 40 * place + 30, 30) for place in range(len(names))]
    objects = tuple(SceneObject(name, "red", box, 400) for name, box in zip(names, boxes, strict=True))
    return Scene(np.zeros((120, 120, 3), np.uint8), "plain", objects)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_caption_names_what_it_says_it_names_and_nothing_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = draw_scene(SceneConfig(), rng)
    caption = write_caption(scene, CaptionConfig(absent=0.5), rng)
    shown = {one.name for one in scene.objects}
    assert set(caption.named) <= shown
    assert caption.absent not in shown
    expected = {*caption.named, *([caption.absent] if caption.absent else [])}
    assert {name for name in FORMS if mentions(caption.text, name)} == expected


def test_classes_are_named_and_absent_ones_added_at_the_stated_rates() -> None:
    config = CaptionConfig(mention=0.7, absent=0.1)
    rng = np.random.default_rng(0)
    captions = [write_caption(scene_of("cat", "sun", "flag"), config, rng) for _ in range(4000)]
    named = sum(len(caption.named) for caption in captions) / (3 * len(captions))
    assert named == pytest.approx(0.7 + 0.3**3 / 3, abs=0.02)
    assert np.mean([caption.absent is not None for caption in captions]) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("mouse", "mouse"), "two mice"),
        (("umbrella",), "an umbrella"),
        (("scissors",), "a pair of scissors"),
        (("scissors", "scissors"), "two pairs of scissors"),
    ],
)
def test_number_and_article(names: tuple[str, ...], text: str) -> None:
    bare = CaptionConfig(mention=1, absent=0, colour=0, size=0, synonym=0, place=0, full_stop=0)
    rng = np.random.default_rng(0)
    texts = {write_caption(scene_of(*names), bare, rng).text for _ in range(60)}
    assert text in texts
    assert all(each.endswith(text) for each in texts)


def test_left_and_right_are_true() -> None:
    bare = CaptionConfig(mention=1, absent=0, colour=0, size=0, synonym=0, place=0, full_stop=0)
    rng = np.random.default_rng(0)
    texts = [write_caption(scene_of("cat", "flag"), bare, rng).text for _ in range(200)]
    assert any("a cat to the left of a flag" in text for text in texts)
    assert any("a flag to the right of a cat" in text for text in texts)
    assert not any("a cat to the right of" in text or "a flag to the left of" in text for text in texts)
