"""Each model is given its own tokenizer, and a tokenizer in Hugging Face form is kept beside the weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from regionclip.clip_models import read_pretrained, save_clip
from regionclip.prompts import tokenize
from regionclip.tokenizers import load_tokenizer, make_tokenizer, needs_tokenizer_files, save_tokenizer

MODEL = "rgc-test-hf-tokenizer"


class Encoded:
    def __init__(self, input_ids: torch.Tensor) -> None:
        self.input_ids = input_ids


class AutoTokenizer:
    """Knows the words of `words.json` in a folder; stands for the class of this name in transformers."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    @classmethod
    def from_pretrained(cls, name: str, trust_remote_code: bool, **options: Any) -> AutoTokenizer:
        assert not trust_remote_code
        path = Path(name) / "words.json"
        if not path.is_file():
            raise OSError(f"{name} is not a local folder")
        return cls(json.loads(path.read_text()))

    def save_pretrained(self, folder: str) -> None:
        Path(folder).mkdir()
        (Path(folder) / "words.json").write_text(json.dumps(self.words))

    def __len__(self) -> int:
        return len(self.words)

    def __call__(self, texts: list[str], max_length: int, **options: Any) -> Encoded:
        ids = [[self.words.index(word) for word in text.split()][:max_length] for text in texts]
        return Encoded(torch.tensor([row + [0] * (max_length - len(row)) for row in ids]))


@pytest.fixture
def hugging_face(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("transformers")
    module.AutoTokenizer = AutoTokenizer
    monkeypatch.setitem(sys.modules, "transformers", module)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "words"
    AutoTokenizer(["", "a", "cat", "dog"]).save_pretrained(str(path))
    return path


@pytest.mark.parametrize(("model", "length"), [("rgc-test-rn", 77), ("rgc-test-custom-text", 24)])
def test_clips_tokenizer_has_the_context_length_of_the_model(model: str, length: int) -> None:
    assert not needs_tokenizer_files(model)
    texts = ["a cat", "word " * 200]
    assert torch.equal(make_tokenizer(model)(texts), tokenize(texts, length))


@pytest.mark.usefixtures("hugging_face")
def test_a_hugging_face_tokenizer_cleans_and_cuts_as_the_model_asks(folder: Path) -> None:
    assert needs_tokenizer_files(MODEL)
    tokens = make_tokenizer(MODEL, str(folder))(["A Cat, a DOG!", "cat " * 50])
    assert tokens.tolist() == [[1, 2, 1, 3] + [0] * 12, [2] * 16]


@pytest.mark.usefixtures("hugging_face")
def test_a_tokenizer_saved_beside_the_weights_is_loaded_with_them(folder: Path, tmp_path: Path) -> None:
    clip, _ = read_pretrained(MODEL, None, allow_untrained=True, seed=0)
    save_clip(clip, MODEL, tmp_path / "clip")
    save_tokenizer(make_tokenizer(MODEL, str(folder)), tmp_path / "clip")
    assert load_tokenizer(tmp_path / "clip")(["dog"])[0, 0] == 3


@pytest.mark.usefixtures("hugging_face")
def test_a_tokenizer_that_is_absent_superfluous_or_too_large_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokenizer 'rgc/none' of 'rgc-test-hf-tokenizer' cannot be read \(rgc/none"):
        make_tokenizer(MODEL)
    with pytest.raises(ValueError, match="'rgc-test-rn' has CLIP's own tokenizer, not 'words'; leave tokenizer out"):
        make_tokenizer("rgc-test-rn", "words")
    (folder / "words.json").write_text(json.dumps([str(number) for number in range(65)]))
    with pytest.raises(ValueError, match="has 65 tokens, 'rgc-test-hf-tokenizer' knows 64"):
        make_tokenizer(MODEL, str(folder))


def test_without_transformers_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"needs the package transformers .* pip install transformers"):
        make_tokenizer("ViT-B-16-SigLIP")
