"""CLIP models of every kind of tower: made, saved, loaded, and told apart."""

from __future__ import annotations

import copy
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from open_clip import CLIP, CoCa, CustomTextCLIP

from regionclip.clip_models import (
    Clip,
    clip_width,
    create_clip,
    load_clip,
    read_pretrained,
    save_clip,
)
from regionclip.known_clips import has_resnet, model_config
from regionclip.region_encoder import RegionEncoder

TINY = "rgc-test-rn"
KINDS = {
    TINY: CLIP,
    "rgc-test-vit": CLIP,
    "rgc-test-convnext": CLIP,
    "rgc-test-custom-text": CustomTextCLIP,
    "rgc-test-coca": CoCa,
}


def same_weights(first: Clip, second: Clip) -> bool:
    return all(torch.equal(weight, second.state_dict()[name]) for name, weight in first.state_dict().items())


@pytest.mark.parametrize(("model", "kind"), KINDS.items())
def test_every_kind_of_model_is_made_of_a_seed_saved_and_loaded(model: str, kind: type, tmp_path: Path) -> None:
    clip, _ = read_pretrained(model, None, allow_untrained=True, seed=1)
    again, _ = read_pretrained(model, None, allow_untrained=True, seed=1)
    assert type(clip) is kind
    assert same_weights(clip, again)
    assert clip_width(clip) == 32 == clip.encode_text(torch.zeros(1, clip.context_length).long()).shape[1]
    save_clip(clip, model, tmp_path)
    assert same_weights(load_clip(tmp_path), clip)


@pytest.mark.parametrize("model", KINDS)
def test_a_region_encoder_takes_the_models_that_are_said_to_have_a_resnet(model: str) -> None:
    visual = create_clip(model).visual
    if has_resnet(model):
        assert RegionEncoder(visual).width == 32
    else:
        with pytest.raises(ValueError, match=rf"got {type(visual).__name__}.*for pretrain, transfer and evaluate"):
            RegionEncoder(visual)


def test_only_resnets_of_clip_are_called_one() -> None:
    assert has_resnet("RN50-quickgelu")
    assert not has_resnet("ViT-B-32")
    assert not has_resnet("convnext_base")


def test_text_weights_of_the_older_form_fit_a_model_with_its_own_text_tower(tmp_path: Path) -> None:
    clip, _ = read_pretrained("rgc-test-custom-text", None, allow_untrained=True, seed=1)
    torch.save({name.removeprefix("text."): weight for name, weight in clip.state_dict().items()}, tmp_path / "old.pt")
    loaded, _ = read_pretrained("rgc-test-custom-text", str(tmp_path / "old.pt"), allow_untrained=False, seed=0)
    assert same_weights(loaded, clip)


@pytest.mark.parametrize("change", ["missing", "one number as a list"])
def test_scales_of_the_training_may_be_missing_or_lists(change: str, tmp_path: Path) -> None:
    clip, _ = read_pretrained("rgc-test-custom-text", None, allow_untrained=True, seed=1)
    state = dict(clip.state_dict())
    for name in ("logit_scale", "logit_bias"):
        weight = state.pop(name)
        if change != "missing":
            state[name] = weight[None]
    torch.save(state, tmp_path / "weights.pt")
    loaded, _ = read_pretrained("rgc-test-custom-text", str(tmp_path / "weights.pt"), allow_untrained=False, seed=0)
    assert same_weights(loaded, clip)


def test_a_hugging_face_text_tower_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    config = model_config("rgc-test-vit")
    config["text_cfg"] = {"hf_model_name": "roberta-base"}
    monkeypatch.setattr("open_clip.get_model_config", lambda name: copy.deepcopy(config))
    monkeypatch.setattr("open_clip.hf_model.transformers", None)
    with pytest.raises(ValueError, match=r"text tower of 'rgc-test-vit' is the Hugging Face model 'roberta-base'"):
        create_clip("rgc-test-vit")


def test_the_image_tower_is_never_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    config = model_config("rgc-test-convnext")
    config["vision_cfg"]["timm_model_pretrained"] = True
    asked = []

    def create(name: str, pretrained: bool, **options: object) -> object:
        asked.append(pretrained)
        return original(name, pretrained=False, **options)

    original = timm.create_model
    monkeypatch.setattr("open_clip.get_model_config", lambda name: copy.deepcopy(config))
    monkeypatch.setattr("timm.create_model", create)
    create_clip("rgc-test-convnext")
    assert asked == [False]


def test_a_configuration_is_a_copy() -> None:
    model_config(TINY)["embed_dim"] = 0
    assert model_config(TINY)["embed_dim"] == 32


def test_our_tiny_model_is_an_open_clip_model() -> None:
    create_clip(TINY)
    assert TINY in open_clip.list_models()
