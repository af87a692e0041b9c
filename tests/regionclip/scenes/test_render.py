import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.scenes.pictograms import BASE, CLASS_NAMES, NOVEL, PICTOGRAMS
from regionclip.scenes.render import SceneConfig, draw_scene


def test_base_and_novel_share_the_classes_out() -> None:
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 40
    assert len(BASE) == 28
    assert set(BASE) | set(NOVEL) == set(CLASS_NAMES)
    assert not set(BASE) & set(NOVEL)


def test_no_glyph_or_word_belongs_to_two_classes() -> None:
    glyphs = [glyph for pictogram in PICTOGRAMS for glyph in pictogram.glyphs]
    words = [
        word for pictogram in PICTOGRAMS for word in {pictogram.name, pictogram.plural, *(pictogram.synonym or ())}
    ]
    assert len(glyphs) == len(set(glyphs))
    assert len(words) == len(set(words))


@given(seed=st.integers(0, 10_000), size=st.sampled_from([48, 64, 96]), most=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_boxes_lie_inside_the_image_and_hold_their_visible_pixels(seed: int, size: int, most: int) -> None:
    scene = draw_scene(SceneConfig(size, 1, most, 16, 40), np.random.default_rng(seed))
    assert scene.image.shape == (size, size, 3)
    assert len(scene.objects) <= most
    for shown in scene.objects:
        x1, y1, x2, y2 = shown.box
        assert 0 <= x1 < x2 <= size
        assert 0 <= y1 < y2 <= size
        assert 0 < shown.area <= (x2 - x1) * (y2 - y1)


def test_a_box_is_tight() -> None:
    """On a plain ground the picture changes in each outermost row and column of the box, and nowhere beyond its rim."""
    config = SceneConfig(96, 1, 1, 30, 60, max_outside=0.0, noise=0)
    scenes = [draw_scene(config, np.random.default_rng(seed)) for seed in range(80)]
    plain = [scene for scene in scenes if scene.background == "plain"]
    assert len(plain) > 5
    for scene in plain:
        colours, counts = np.unique(scene.image.reshape(-1, 3), axis=0, return_counts=True)
        changed = np.abs(scene.image - colours[counts.argmax()].astype(int)).max(axis=2) > 8
        (shown,) = scene.objects
        x1, y1, x2, y2 = shown.box
        inside = changed[y1:y2, x1:x2]
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
        changed[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = False
        assert not changed.any()


def test_a_mostly_hidden_object_is_not_shown() -> None:
    crowded = SceneConfig(size=48, min_objects=6, max_objects=6, min_side=40, max_side=44, max_overlap=1.0)
    scenes = [draw_scene(crowded, np.random.default_rng(seed)) for seed in range(10)]
    assert all(1 <= len(scene.objects) < 6 for scene in scenes)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="max_side"):
        SceneConfig(size=32, max_side=60)
    with pytest.raises(ValueError, match="min_objects"):
        SceneConfig(min_objects=4, max_objects=3)
