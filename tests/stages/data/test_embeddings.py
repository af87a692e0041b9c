"""Embeddings through the stages: made by any text tower, or taken in from a file with its names."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from regionclip import prompts
from regionclip.clip_models import load_clip, save_clip
from regionclip.embeddings import load_embeddings
from regionclip.schemas import CONCEPTS
from stages import embed_concepts, read_clip, read_concepts, read_embeddings
from stages.contract import Artifact
from stages.embed_concepts import EmbeddingsConfig
from stages.parts import read_table, write_table
from stages.read_clip import ClipConfig
from stages.read_concepts import ReadConceptsConfig
from stages.read_embeddings import ReadEmbeddingsConfig
from stages.storage import Folder

Run = Callable[..., Artifact]

NAMES = ["zebra", "traffic light", "ant"]


@pytest.fixture
def concepts(tmp_path: Path) -> Artifact:
    return pool(tmp_path / "concepts", NAMES)


def pool(folder: Path, names: list[str]) -> Artifact:
    rows = [{"concept": name, "document_frequency": 0, "count": 0, "parser": "list"} for name in names]
    table = pa.Table.from_pylist(
        [{**row, "surface_forms": [], "examples": [], "merged_from": []} for row in rows], schema=CONCEPTS
    )
    write_table(Folder(str(folder)), "concepts", table)
    return Artifact("concepts", "c", Folder(str(folder)))


@pytest.fixture
def clip(tmp_path: Path, tiny_clip: Any) -> Artifact:
    save_clip(tiny_clip, "rgc-test-rn", tmp_path / "clip")
    return Artifact("clip", "t", Folder(str(tmp_path / "clip")))


def described(embeddings: Artifact) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(embeddings.folder.read("concepts.json"))
    return about


def test_embeddings_stand_in_the_order_of_the_pool(
    run_stage: Run, concepts: Artifact, clip: Artifact, tiny_clip: Any
) -> None:
    embeddings = run_stage(embed_concepts.STAGE, EmbeddingsConfig("plain"), concepts=concepts, clip=clip)
    names, numbers = load_embeddings(embeddings.folder.local())
    assert names == NAMES
    torch.testing.assert_close(numbers, prompts.embed_concepts(tiny_clip, NAMES, prompts.TEMPLATES["plain"]))
    assert embeddings.manifest["metrics"] == {"concepts": 3, "width": numbers.shape[1]}


@pytest.mark.parametrize("model", ["rgc-test-vit", "rgc-test-convnext", "rgc-test-custom-text", "rgc-test-coca"])
def test_any_kind_of_model_names_concepts(run_stage: Run, concepts: Artifact, model: str) -> None:
    clip = run_stage(read_clip.STAGE, ClipConfig(model, allow_untrained=True))
    embeddings = run_stage(embed_concepts.STAGE, EmbeddingsConfig("plain"), concepts=concepts, clip=clip)
    _, numbers = load_embeddings(embeddings.folder.local())
    tower = load_clip(clip.folder.local())
    tokens = prompts.tokenize([f"{name}." for name in NAMES], tower.context_length)
    torch.testing.assert_close(numbers, tower.encode_text(tokens, normalize=False).detach(), rtol=1e-4, atol=1e-5)


def test_templates_of_a_file_are_known_by_their_texts_and_never_by_their_path(
    run_stage: Run, concepts: Artifact, clip: Artifact, tmp_path: Path
) -> None:
    paths = [tmp_path / "secret-a.txt", tmp_path / "secret-b.txt", tmp_path / "secret-c.txt"]
    for path, text in zip(paths, ("a {}\nthe {}\n", "a {}\n\nthe {}", "the {}\na {}\n"), strict=True):
        path.write_text(text)
    configs = [EmbeddingsConfig(str(path)) for path in paths]
    given = {"concepts": concepts, "clip": clip}
    keys = [embed_concepts.STAGE.key(config, given) for config in configs]
    assert keys[0] == keys[1] != keys[2]
    embeddings = run_stage(embed_concepts.STAGE, configs[0], **given)
    about = described(embeddings)
    assert (about["templates"], about["num_templates"], about["ensemble"]) == ("file", 2, "mean")
    assert about["templates_sha256"] == prompts.read_templates(str(paths[2].with_name("secret-b.txt"))).sha256
    assert "secret" not in embeddings.folder.read("concepts.json").decode()


def test_a_set_and_a_file_with_its_texts_have_one_key_and_description(
    run_stage: Run, concepts: Artifact, clip: Artifact, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("{}.\n")
    given = {"concepts": concepts, "clip": clip}
    configs = [EmbeddingsConfig(name) for name in ("plain", str(tmp_path / "mine.txt"))]
    keys = {embed_concepts.STAGE.key(config, given) for config in configs}
    assert len(keys) == 1
    by_name, by_file = (described(run_stage(embed_concepts.STAGE, config, **given)) for config in configs)
    assert by_name == by_file
    assert by_name["templates"] == "plain"
    others = (EmbeddingsConfig("plain", "normalized_mean"), EmbeddingsConfig("plain", names="lvis"))
    assert len(keys | {embed_concepts.STAGE.key(config, given) for config in others}) == 3


def test_lvis_names_are_prompted_as_words_and_kept_as_they_are(
    run_stage: Run, clip: Artifact, tiny_clip: Any, tmp_path: Path
) -> None:
    names = ["flip-flop_(sandal)"]
    config = EmbeddingsConfig("plain", names="lvis")
    embeddings = run_stage(embed_concepts.STAGE, config, concepts=pool(tmp_path / "lvis", names), clip=clip)
    kept, numbers = load_embeddings(embeddings.folder.local())
    assert kept == names
    torch.testing.assert_close(numbers, prompts.embed_concepts(tiny_clip, ["flip-flop sandal"], ("{}.",)))


def test_unknown_templates_are_refused_with_the_known_ones(concepts: Artifact, clip: Artifact) -> None:
    with pytest.raises(ValueError, match="templates 'method' is no file and no known set of prompts; choose method81"):
        embed_concepts.STAGE.key(EmbeddingsConfig("method"), {"concepts": concepts, "clip": clip})


@pytest.fixture
def tensor_file(tmp_path: Path) -> Callable[[object], ReadEmbeddingsConfig]:
    def write(content: object, names: str = "dog,9\ncat\nzebra\n") -> ReadEmbeddingsConfig:
        torch.save(content, tmp_path / "coco_emb.pth")
        (tmp_path / "coco.txt").write_text(names)
        return ReadEmbeddingsConfig(str(tmp_path / "coco_emb.pth"), str(tmp_path / "coco.txt"))

    return write


TensorFile = Callable[..., ReadEmbeddingsConfig]


def test_a_bare_tensor_and_its_names_become_embeddings_with_the_same_numbers(
    run_stage: Run, tensor_file: TensorFile
) -> None:
    numbers = torch.randn(3, 8) * 5
    embeddings = run_stage(read_embeddings.STAGE, tensor_file(numbers))
    names, read = load_embeddings(embeddings.folder.local(), width=8)
    assert names == ["dog", "cat", "zebra"]
    assert torch.equal(read, numbers)
    assert embeddings.manifest["metrics"] == {"concepts": 3, "width": 8}


def test_the_squeezed_tensor_of_one_name_is_one_row(run_stage: Run, tensor_file: TensorFile) -> None:
    embeddings = run_stage(read_embeddings.STAGE, tensor_file(torch.arange(8.0), "dog\n"))
    assert torch.equal(load_embeddings(embeddings.folder.local())[1], torch.arange(8.0)[None])


def test_the_key_is_of_numbers_and_names_and_not_of_paths_or_frequencies(
    tensor_file: TensorFile, tmp_path: Path
) -> None:
    def key(config: ReadEmbeddingsConfig) -> str:
        return read_embeddings.STAGE.key(config, {})

    before = key(tensor_file(torch.ones(3, 8)))
    (tmp_path / "coco.txt").rename(tmp_path / "moved.txt")
    moved = ReadEmbeddingsConfig(str(tmp_path / "coco_emb.pth"), str(tmp_path / "moved.txt"))
    assert key(moved) == before
    assert key(tensor_file(torch.ones(3, 8), "dog\ncat\nzebra\n")) == before
    assert key(tensor_file(torch.ones(3, 8), "cat\ndog\nzebra\n")) != before
    assert key(tensor_file(torch.zeros(3, 8))) != before


def test_another_number_of_names_than_rows_is_refused(run_stage: Run, tensor_file: TensorFile) -> None:
    with pytest.raises(ValueError, match=r"coco_emb\.pth has 2 rows, .*coco\.txt 3 names"):
        run_stage(read_embeddings.STAGE, tensor_file(torch.ones(2, 8)))


def test_missing_files_are_said_before_any_work(tensor_file: TensorFile, tmp_path: Path) -> None:
    config = tensor_file(torch.ones(3, 8))
    (tmp_path / "coco_emb.pth").unlink()
    with pytest.raises(ValueError, match=r"coco_emb\.pth: no such file"):
        read_embeddings.STAGE.key(config, {})


class Payload:
    """Runs code when it is unpickled without care."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("the pickle was executed",))


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_pickled_code_is_refused_and_not_run(
    run_stage: Run, tensor_file: TensorFile, tmp_path: Path, save: Callable[[object, Path], None]
) -> None:
    config = tensor_file(torch.ones(3, 8))
    save(Payload(), tmp_path / "coco_emb.pth")
    with pytest.raises(ValueError, match=r"coco_emb\.pth is damaged or holds more than tensors"):
        run_stage(read_embeddings.STAGE, config)


def test_a_text_file_of_names_becomes_concepts_known_by_content(run_stage: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("zebra,12\nant\n")
    (tmp_path / "b.txt").write_text("zebra,12,noun\r\nant,0\r\n")
    (tmp_path / "c.txt").write_text("ant\nzebra,12\n")
    configs = [ReadConceptsConfig(str(tmp_path / name)) for name in ("a.txt", "b.txt", "c.txt")]
    keys = [read_concepts.STAGE.key(config, {}) for config in configs]
    assert keys[0] == keys[1] != keys[2]
    concepts = run_stage(read_concepts.STAGE, configs[0])
    table = read_table(concepts, "concepts")
    assert table["concept"].to_pylist() == ["zebra", "ant"]
    assert table["document_frequency"].to_pylist() == [12, 0]
    assert concepts.manifest["metrics"] == {"concepts": 2}


def test_a_model_with_a_local_tokenizer_keeps_it_uses_it_and_is_known_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_stage: Run, concepts: Artifact
) -> None:
    class Tokenizer:
        def __init__(self, model: str, source: str | None) -> None:
            assert source is not None
            self.text = (Path(source) / "words").read_text()

        def save_pretrained(self, folder: str) -> None:
            Path(folder).mkdir()
            (Path(folder) / "words").write_text(self.text)

        def __call__(self, texts: list[str]) -> torch.Tensor:
            return torch.full((len(texts), 16), len(self.text))

    monkeypatch.setattr("regionclip.tokenizers.make_tokenizer", Tokenizer)
    for name, text in (("a", "words"), ("b", "words"), ("c", "other")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "words").write_text(text)
    configs = [
        ClipConfig("rgc-test-hf-tokenizer", allow_untrained=True, tokenizer=str(tmp_path / name)) for name in "abc"
    ]
    keys = [read_clip.STAGE.key(config, {}) for config in configs]
    assert keys[0] == keys[1] != keys[2]
    clip = run_stage(read_clip.STAGE, configs[0])
    assert clip.folder.read("tokenizer/words") == b"words"
    embeddings = run_stage(embed_concepts.STAGE, EmbeddingsConfig("plain"), concepts=concepts, clip=clip)
    _, numbers = load_embeddings(embeddings.folder.local())
    expected = load_clip(clip.folder.local()).encode_text(torch.full((3, 16), 5)).detach()
    torch.testing.assert_close(numbers, expected)
    again = ClipConfig("rgc-test-hf-tokenizer", clip.folder.uri)
    assert run_stage(read_clip.STAGE, again).folder.read("tokenizer/words") == b"words"
    before = read_clip.STAGE.key(again, {})
    clip.folder.write("tokenizer/words", b"changed")
    assert read_clip.STAGE.key(again, {}) != before
