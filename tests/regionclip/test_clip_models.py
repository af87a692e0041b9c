from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor

from regionclip.clip_models import (
    Clip,
    clip_width,
    create_clip,
    known_pixels,
    load_clip,
    read_pretrained,
    save_clip,
)
from regionclip.images import CLIP_MEAN, CLIP_STD
from regionclip.known_clips import Pixels, from_tag, usual_pixels

TINY = "rgc-test-rn"


def same_weights(first: Clip, second: Clip) -> bool:
    return all(torch.equal(weight, second.state_dict()[name]) for name, weight in first.state_dict().items())


def from_file(path: Path) -> CLIP:
    clip, untrained = read_pretrained(TINY, str(path), allow_untrained=False, seed=0)
    assert not untrained
    return clip


@pytest.fixture
def state(tiny_clip: CLIP) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tiny_clip.state_dict().items()}


@pytest.fixture
def weights(tmp_path: Path, state: dict[str, Tensor]) -> Callable[[object], Path]:
    def write(content: object) -> Path:
        path = tmp_path / "weights.pt"
        torch.save(content, path)
        return path

    return write


def test_a_saved_clip_loads_with_the_same_weights_in_eval_mode(tmp_path: Path, tiny_clip: CLIP) -> None:
    save_clip(tiny_clip, TINY, tmp_path / "clip")
    loaded = load_clip(tmp_path / "clip")
    assert same_weights(tiny_clip, loaded)
    assert not loaded.training
    assert clip_width(loaded) == 32


def test_loading_leaves_the_random_generator_alone(tmp_path: Path, tiny_clip: CLIP) -> None:
    save_clip(tiny_clip, TINY, tmp_path)
    before = torch.get_rng_state()
    load_clip(tmp_path)
    read_pretrained(TINY, None, allow_untrained=True, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_on_disk_is_single_precision_in_memory(tmp_path: Path, tiny_clip: CLIP) -> None:
    save_clip(tiny_clip, TINY, tmp_path, dtype=torch.float16)
    stored = load_file(tmp_path / "clip.safetensors")
    assert stored["visual.bn1.weight"].dtype == torch.float16
    assert stored["visual.bn1.num_batches_tracked"].dtype == torch.int64
    loaded = load_clip(tmp_path).state_dict()
    for name, weight in tiny_clip.state_dict().items():
        assert loaded[name].dtype == weight.dtype
        if weight.is_floating_point():
            assert torch.equal(loaded[name], weight.half().float())


def test_a_folder_keeps_its_provenance_and_says_whether_it_is_untrained(tmp_path: Path, tiny_clip: CLIP) -> None:
    save_clip(tiny_clip, TINY, tmp_path, provenance={"untrained": True, "steps": 5})
    assert json.loads((tmp_path / "clip.json").read_text()) == {
        "model": TINY,
        "mean": list(CLIP_MEAN),
        "std": list(CLIP_STD),
        "provenance": {"steps": 5, "untrained": True},
    }
    loaded, untrained = read_pretrained(TINY, str(tmp_path), allow_untrained=False, seed=0)
    assert untrained
    assert same_weights(loaded, tiny_clip)
    with pytest.raises(ValueError, match="holds a 'rgc-test-rn', not a 'RN50-quickgelu'"):
        read_pretrained("RN50-quickgelu", str(tmp_path), allow_untrained=False, seed=0)


def test_random_weights_need_permission_and_are_a_function_of_the_seed() -> None:
    with pytest.raises(ValueError, match=r"no pretrained weights given for 'rgc-test-rn'.*allow_untrained"):
        read_pretrained(TINY, None, allow_untrained=False, seed=1)
    first, untrained = read_pretrained(TINY, None, allow_untrained=True, seed=1)
    again, _ = read_pretrained(TINY, None, allow_untrained=True, seed=1)
    other, _ = read_pretrained(TINY, None, allow_untrained=True, seed=2)
    assert untrained
    assert same_weights(first, again)
    assert not same_weights(first, other)


@pytest.mark.parametrize("form", ["bare", "state_dict", "model", "module", "no counters", "half"])
def test_every_form_of_a_state_dict_is_read(
    form: str, state: dict[str, Tensor], weights: Callable[[object], Path], tiny_clip: CLIP
) -> None:
    content: object = {
        "bare": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": state},
        "module": {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        "no counters": {name: tensor for name, tensor in state.items() if "num_batches" not in name},
        "half": {name: tensor.half() for name, tensor in state.items()},
    }[form]
    loaded = from_file(weights(content))
    if form == "half":
        torch.testing.assert_close(loaded.text_projection, tiny_clip.text_projection, rtol=1e-3, atol=1e-3)
    else:
        assert same_weights(loaded, tiny_clip)


def test_a_safetensors_file_is_read(tmp_path: Path, state: dict[str, Tensor], tiny_clip: CLIP) -> None:
    save_file(state, tmp_path / "weights.safetensors")
    assert same_weights(from_file(tmp_path / "weights.safetensors"), tiny_clip)


def test_openais_form_needs_the_quickgelu_model(state: dict[str, Tensor], weights: Callable[[object], Path]) -> None:
    extra = {name: torch.tensor(77) for name in ("input_resolution", "context_length", "vocab_size")}
    path = weights({**state, **extra})
    from_file(path)
    with pytest.raises(ValueError, match=r"trained with QuickGELU, 'RN50' computes GELU; use 'RN50-quickgelu'"):
        read_pretrained("RN50", str(path), allow_untrained=False, seed=0)


@pytest.mark.parametrize(
    ("model", "tag", "message"),
    [
        ("RN50", "openai", "'openai' was trained with QuickGELU, 'RN50' computes GELU; use 'RN50-quickgelu'"),
        ("RN50x4", "openai", "use 'RN50x4-quickgelu'"),
        ("RN50-quickgelu", "opnai", "its tags: openai, yfcc15m, cc12m"),
        (TINY, "openai", "its tags: none"),
    ],
)
def test_a_tag_is_checked_before_any_download(model: str, tag: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_pretrained(model, tag, allow_untrained=False, seed=0)


def test_an_openai_tag_downloads_once_the_model_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(config: object) -> str:
        raise FileNotFoundError("no route to host")

    monkeypatch.setattr("regionclip.known_clips.download_pretrained", unreachable)
    with pytest.raises(ValueError, match=r"could not be downloaded \(no route to host\); give a local file"):
        read_pretrained("RN50-quickgelu", "openai", allow_untrained=False, seed=0)


def test_a_hub_repository_is_read_and_its_activation_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor], tiny_clip: CLIP
) -> None:
    save_file(state, tmp_path / "open_clip_model.safetensors")

    def hub(repository: str, filename: str = "open_clip_model.safetensors") -> str:
        assert repository == "someone/tiny"
        return str(tmp_path / filename)

    monkeypatch.setattr("regionclip.known_clips.download_pretrained_from_hf", hub)
    config = tmp_path / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
    loaded, untrained = read_pretrained(TINY, "hf-hub:someone/tiny", allow_untrained=False, seed=0)
    assert same_weights(loaded, tiny_clip)
    assert not untrained
    config.write_text(json.dumps({"model_cfg": {}}))
    with pytest.raises(ValueError, match="hf-hub:someone/tiny was trained with GELU"):
        read_pretrained(TINY, "hf-hub:someone/tiny", allow_untrained=False, seed=0)


def test_weights_say_what_pixels_they_were_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor], weights: Callable[[object], Path]
) -> None:
    clips, others = Pixels(CLIP_MEAN, CLIP_STD), Pixels((0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
    file = str(weights(state))
    monkeypatch.setattr("regionclip.known_clips.download_pretrained", lambda config: file)
    monkeypatch.setattr("open_clip.get_pretrained_cfg", lambda model, tag: {"quick_gelu": True, **stated[tag]})
    monkeypatch.setattr("open_clip.list_pretrained_tags_by_model", lambda model: list(stated))
    stated: dict[str, Any] = {"silent": {}, "stating": others._asdict()}

    def read(pretrained: str) -> Pixels:
        return known_pixels(read_pretrained(TINY, pretrained, allow_untrained=False, seed=0)[0])

    assert (read("silent"), read("stating"), read(file)) == (clips, others, clips)
    del stated["silent"]  # so that all tags agree
    assert read(file) == others
    save_clip(read_pretrained(TINY, "stating", allow_untrained=False, seed=0)[0], TINY, tmp_path / "clip")
    assert read(str(tmp_path / "clip")) == known_pixels(load_clip(tmp_path / "clip")) == others


@pytest.mark.parametrize(
    ("model", "mean"),
    [("ViT-B-16-SigLIP", 0.5), ("MobileCLIP-S1", 0.0), ("ViT-L-14", CLIP_MEAN[0]), (TINY, CLIP_MEAN[0])],
)
def test_a_file_is_taken_to_want_what_all_tags_of_its_model_want(model: str, mean: float) -> None:
    assert usual_pixels(model).mean[0] == mean


def test_a_tag_that_leaves_the_activation_to_its_only_model_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regionclip.known_clips.download_pretrained", lambda config: "weights")
    assert from_tag("roberta-ViT-B-32", "laion2b_s12b_b32k").path == Path("weights")


def test_mismatched_weights_name_the_first_keys_and_shapes(
    state: dict[str, Tensor], weights: Callable[[object], Path]
) -> None:
    state["stranger.weight"] = state.pop("visual.conv1.weight")
    state["text_projection"] = torch.zeros(32, 48)
    with pytest.raises(ValueError, match="does not fit 'rgc-test-rn'") as caught:
        from_file(weights(state))
    message = str(caught.value)
    assert "1 missing: visual.conv1.weight" in message
    assert "1 unexpected: stranger.weight" in message
    assert "1 of another shape: text_projection [32, 48] instead of [32, 32]" in message


def test_many_missing_keys_are_counted_and_cut(weights: Callable[[object], Path]) -> None:
    with pytest.raises(ValueError, match=r"\d\d missing: positional_embedding, text_projection, .*, \.\.\.;"):
        from_file(weights({}))


def test_a_torchscript_archive_is_to_be_converted(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "RN50.pt"))
    with pytest.raises(ValueError, match=r"RN50\.pt is a TorchScript archive .*; convert it once"):
        from_file(tmp_path / "RN50.pt")


class Payload:
    """Runs code when it is unpickled without care."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("the pickle was executed",))


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_pickled_code_is_never_run(save: Callable[[object, Path], None], tmp_path: Path) -> None:
    save({"state_dict": Payload()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt is damaged or holds more than tensors"):
        from_file(tmp_path / "evil.pt")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_truncated_file_is_named(name: str, tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{name} is (damaged|not a readable weights file)"):
        from_file(path)


def test_a_folder_without_clip_files_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a CLIP folder; it needs clip\.json and clip\.safetensors"):
        load_clip(tmp_path)


@pytest.mark.parametrize("name", ["rn50-quikgelu", "RN50-quickgelU"])
def test_an_unknown_model_name_is_answered_with_close_ones(name: str) -> None:
    with pytest.raises(ValueError, match=rf"CLIP model '{name}' is unknown; close names: .*RN50-quickgelu"):
        create_clip(name)
    with pytest.raises(ValueError, match=r"close names: none; open_clip.list_models\(\) gives all names"):
        create_clip("@@@")
