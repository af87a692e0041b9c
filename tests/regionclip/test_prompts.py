from __future__ import annotations

from pathlib import Path

import pytest
import torch
from open_clip import CLIP, OPENAI_IMAGENET_TEMPLATES, CustomTextCLIP
from torch.nn import functional

from regionclip.clip_models import read_pretrained
from regionclip.known_clips import model_config
from regionclip.prompts import TEMPLATES, embed_concepts, encode_texts, fill, lvis_name, read_templates, tokenize
from regionclip.tokenizers import make_tokenizer

START, END = 49406, 49407
TWO = ("a {}", "the {} there.")


def test_template_sets_hold_81_80_and_one_template() -> None:
    openai = [template("dog") for template in OPENAI_IMAGENET_TEMPLATES]
    method = [fill(template, "dog") for template in TEMPLATES["method81"]]
    assert method[:2] == ["dog.", "a photo of a dog."]
    assert method[2:] == [prompt for prompt in openai if prompt != "a photo of a dog."]
    assert len(method) == len(set(method)) == 81
    assert [fill(template, "dog") for template in TEMPLATES["openai80"]] == openai
    assert [fill(template, "dog") for template in TEMPLATES["plain"]] == ["dog."]


@pytest.mark.parametrize(
    ("name", "prompt"),
    [("fire hydrant, red", "a fire hydrant red"), ("ski+pole", "a ski pole"), ("{}x{0}", "a {}x{0}")],
)
def test_names_are_cleaned_and_inserted_as_they_are(name: str, prompt: str) -> None:
    assert fill("a {}", name) == prompt


def test_a_template_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="template 'a photo' has no place for the name"):
        fill("a photo", "dog")


def test_templates_of_a_file_are_its_lines_and_known_by_their_texts(tmp_path: Path) -> None:
    for name, text in (("a.txt", "a {}\n\n  the {} there. \r\n"), ("b.txt", "\ufeffa {}\nthe {} there.")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    first, second = (read_templates(str(tmp_path / name)) for name in ("a.txt", "b.txt"))
    assert first == second
    assert first.texts == TWO
    assert first.source == "file"
    assert first.sha256 != read_templates("plain").sha256
    (tmp_path / "b.txt").write_text("the {} there.\na {}")
    assert read_templates(str(tmp_path / "b.txt")).sha256 != first.sha256


def test_a_known_set_is_taken_by_its_name() -> None:
    templates = read_templates("method81")
    assert (templates.source, templates.texts) == ("method81", TEMPLATES["method81"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a {}\n\na photo\n", r"t\.txt:3: 'a photo' has no place for the name"),
        (b"\n \n", r"t\.txt holds no templates"),
        (b"a {} \xff", r"t\.txt is not UTF-8"),
        (None, r"t\.txt' is no file and no known set of prompts; choose method81, openai80, plain"),
    ],
)
def test_a_file_without_usable_templates_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_templates(str(tmp_path / "t.txt"))


def test_lvis_names_become_words() -> None:
    assert lvis_name("flip-flop_(sandal)") == "flip-flop sandal"


def test_tokens_are_start_words_end_and_zeros() -> None:
    tokens = tokenize(["A  cat &amp;amp; DOG", ""])
    assert tokens.shape == (2, 77)
    assert torch.equal(tokens[0], tokenize(["a cat & dog"])[0])
    assert tokens[1].tolist() == [START, END] + [0] * 75
    assert tokenize([]).shape == (0, 77)


def test_an_overlong_text_still_ends_in_the_end_token() -> None:
    tokens = tokenize(["word " * 200])[0]
    assert tokens[0] == START
    assert tokens[-1] == END == tokens.max()
    assert (tokens == END).sum() == 1


@torch.no_grad()
def test_texts_encode_as_open_clip_does_whatever_the_batch_size(tiny_clip: CLIP) -> None:
    texts = ["a cat", "a much longer sentence about two dogs", "word " * 200, "", "zebra"]
    expected = tiny_clip.encode_text(tokenize(texts))
    for batch_size in (1, 2, 5, 100):
        torch.testing.assert_close(encode_texts(tiny_clip, texts, batch_size), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "model", ["rgc-test-vit", "rgc-test-convnext", "rgc-test-custom-text", "rgc-test-coca", "rgc-test-hf-tokenizer"]
)
@torch.no_grad()
def test_every_kind_of_text_tower_encodes_as_open_clip_does(model: str) -> None:
    clip, _ = read_pretrained(model, None, allow_untrained=True, seed=0)
    tokenizer = Words(64, 16) if model == "rgc-test-hf-tokenizer" else make_tokenizer(model)
    texts = ["a cat", "a much longer sentence about two dogs", "word " * 200, "zebra"]
    expected = clip.encode_text(tokenizer(texts), normalize=False)
    for batch_size in (1, 3, 100):
        actual = encode_texts(clip, texts, batch_size, tokenizer)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert embed_concepts(clip, [], TWO, tokenizer=tokenizer).shape == (0, 32)


@pytest.mark.parametrize(("text", "columns"), [({}, 6), ({"no_causal_mask": True}, 77), ({"pool_type": "last"}, 77)])
@torch.no_grad()
def test_only_a_causal_tower_leaves_out_what_follows_the_text(text: dict[str, object], columns: int) -> None:
    torch.manual_seed(0)
    config = model_config("rgc-test-vit")
    config["text_cfg"].update(text)
    clip = CustomTextCLIP(**config).eval()
    texts = ["a cat", "a much longer sentence"]
    expected = clip.encode_text(tokenize(texts))
    seen = []
    clip.text.token_embedding.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    torch.testing.assert_close(encode_texts(clip, texts, 2), expected, rtol=1e-4, atol=1e-5)
    assert seen == [columns]


class Words:
    """Tokens that are lengths of words, as many as a model knows."""

    def __init__(self, vocabulary: int, context_length: int) -> None:
        self.vocabulary, self.context_length = vocabulary, context_length

    def __call__(self, texts: list[str]) -> torch.Tensor:
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.int64)
        for row, text in enumerate(texts):
            lengths = [len(word) % self.vocabulary for word in text.split()][: self.context_length]
            tokens[row, : len(lengths)] = torch.tensor(lengths)
        return tokens


def test_the_tokenizer_of_clip_is_refused_by_a_model_of_another_vocabulary() -> None:
    clip, _ = read_pretrained("rgc-test-hf-tokenizer", None, allow_untrained=True, seed=0)
    with pytest.raises(ValueError, match="vocabulary of 64 tokens, CLIP's tokenizer 49408; give the model's own"):
        encode_texts(clip, ["cat"], 1)


def test_no_texts_give_an_empty_table_and_a_batch_of_none_is_refused(tiny_clip: CLIP) -> None:
    assert encode_texts(tiny_clip, [], 4).shape == (0, 32)
    assert embed_concepts(tiny_clip, [], TWO).shape == (0, 32)
    with pytest.raises(ValueError, match="batch_size 0"):
        encode_texts(tiny_clip, ["cat"], 0)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 256])
def test_the_mean_ensemble_is_the_raw_mean_over_the_prompts_of_each_name(tiny_clip: CLIP, batch_size: int) -> None:
    names = ["cat", "dog", "zebra"]
    embeddings = embed_concepts(tiny_clip, names, TWO, batch_size=batch_size)
    for name, embedding in zip(names, embeddings, strict=True):
        raw = encode_texts(tiny_clip, [f"a {name}", f"the {name} there."], 2)
        torch.testing.assert_close(embedding, (raw[0] + raw[1]) / 2, rtol=1e-4, atol=1e-5)


def test_the_normalized_mean_normalises_before_and_after(tiny_clip: CLIP) -> None:
    embedding = embed_concepts(tiny_clip, ["cat"], TWO, ensemble="normalized_mean")[0]
    first, second = functional.normalize(encode_texts(tiny_clip, ["a cat", "the cat there."], 2), dim=-1)
    torch.testing.assert_close(embedding, functional.normalize(first + second, dim=0), rtol=1e-4, atol=1e-5)


def test_blank_names_missing_templates_and_unknown_ensembles_are_refused(tiny_clip: CLIP) -> None:
    with pytest.raises(ValueError, match="concept name 1 is blank"):
        embed_concepts(tiny_clip, ["cat", " "], TWO)
    with pytest.raises(ValueError, match="take one of TEMPLATES: method81"):
        embed_concepts(tiny_clip, ["cat"], ())
    with pytest.raises(ValueError, match="ensemble 'median' is unknown"):
        embed_concepts(tiny_clip, ["cat"], TWO, ensemble="median")  # type: ignore[arg-type]


def test_text_features_carry_no_gradient(tiny_clip: CLIP) -> None:
    assert not encode_texts(tiny_clip, ["cat"], 1).requires_grad
