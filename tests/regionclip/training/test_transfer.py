from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import CLIP
from torch import Tensor

from regionclip.grouped import Grouped
from regionclip.images import ResizeConfig
from regionclip.proposals.network import ProposerConfig
from regionclip.training import loop
from regionclip.training.images import ImageBatch, ImageFiles
from regionclip.training.pretrain import pretrain
from regionclip.training.proposer import ProposerArguments, ProposerTrainingConfig, train_proposer
from regionclip.training.schedule import OptimizerConfig
from regionclip.training.session import LocalSession
from regionclip.training.transfer import TransferArguments, TransferConfig, build_detector, transfer

SHORT = OptimizerConfig(learning_rate=0.01, warmup_steps=2, schedule="constant")


@pytest.fixture
def arguments(start: CLIP, random_images: ImageFiles) -> TransferArguments:
    """Six images of one true box and six proposals each; one proposal lies near the true box."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 30, (6, 2))
    true = np.hstack([corners, corners + 24]).astype(np.float32)
    far = rng.uniform(0, 30, (6, 5, 2))
    proposed = np.concatenate([true[:, None] + 2, np.concatenate([far, far + 20], axis=2)], axis=1)
    return TransferArguments(
        config=TransferConfig(
            batch_size=3,
            num_steps=5,
            optimizer=SHORT,
            samples_per_image=8,
            temperature=0.1,
            resize=ResizeConfig("detection", 64, 64),
        ),
        clip=copy.deepcopy(start),
        classes=("cat", "cup"),
        class_embeddings=torch.randn(2, 32, generator=torch.Generator().manual_seed(0)),
        images=random_images,
        proposals=Grouped(
            np.arange(7) * 6,
            {"boxes": proposed.reshape(-1, 4).astype(np.float32), "objectness": np.zeros(36, np.float32)},
        ),
        truth=Grouped(np.arange(7), {"boxes": true, "labels": np.arange(6) % 2}),
    )


def run(arguments: TransferArguments, folder: Path | None = None) -> tuple[dict[str, Tensor], dict[int, dict]]:
    logged: dict[int, dict] = {}

    def log(metrics: Mapping[str, float], step: int) -> None:
        logged[step] = dict(metrics)

    return transfer(LocalSession(folder, log=log), arguments), logged


def test_trainings_normalise_pixels_as_the_start_wants_them(
    arguments: TransferArguments, pretrain_arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    normalized, seen = ImageBatch.normalized, []

    def normalize(batch: ImageBatch, mean: Any, std: Any, device: torch.device) -> Tensor:
        seen.append((mean, std))
        return normalized(batch, mean, std, device)

    monkeypatch.setattr(ImageBatch, "normalized", normalize)
    wanted = (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)
    for train, given in ((transfer, arguments), (pretrain, pretrain_arguments(num_steps=5))):
        given.clip.visual.image_mean, given.clip.visual.image_std = wanted
        train(LocalSession(), given)
    assert seen == [wanted] * 10


def test_five_steps_lower_the_loss_and_repeat_exactly(
    arguments: TransferArguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    gentle = OptimizerConfig(learning_rate=0.002, warmup_steps=0)
    still = replace(arguments, config=replace(arguments.config, batch_size=6, flip=0.0, optimizer=gentle))
    first, logged = run(copy.deepcopy(still))
    second, again = run(copy.deepcopy(still))
    assert logged == again
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert logged[5]["loss_classification"] < logged[1]["loss_classification"]


def test_a_resumed_transfer_ends_in_the_same_bytes(
    arguments: TransferArguments, interrupted: LocalSession, tmp_path: Path
) -> None:
    whole, _ = run(copy.deepcopy(arguments))
    with pytest.raises(KeyboardInterrupt):
        transfer(interrupted, copy.deepcopy(arguments))
    resumed, _ = run(copy.deepcopy(arguments), tmp_path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_class_embeddings_and_frozen_layers_stay_as_they_were(arguments: TransferArguments) -> None:
    before = {name: value.clone() for name, value in build_detector(arguments).state_dict().items()}
    after, _ = run(arguments)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    places = {".".join(name.split(".")[:3]) for name in changed}
    assert places == {
        *(f"encoder.visual.{part}" for part in ("layer2", "layer3", "layer4", "attnpool")),
        "head.box_regressor.weight",
        "head.box_regressor.bias",
    }


def test_the_two_classification_losses_differ(arguments: TransferArguments) -> None:
    weighted = replace(arguments, config=replace(arguments.config, classification_loss="weighted"))
    losses = [run(copy.deepcopy(each))[1][5]["loss_classification"] for each in (arguments, weighted)]
    assert losses[0] != pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_embeddings": torch.zeros(3, 32)}, "2 base classes"),
        ({"class_embeddings": torch.zeros(2, 16)}, "width of 32"),
        (
            {"truth": Grouped(np.zeros(7, np.int64), {"boxes": np.empty((0, 4)), "labels": np.empty(0)})},
            "no image has a box of a base class",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(
    arguments: TransferArguments, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(replace(arguments, **change))


def test_a_proposer_learns_and_resumes_exactly(
    arguments: TransferArguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 3)
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    layout = ProposerConfig(blocks=(1, 1), width=8, levels=(8,), fpn_channels=None, anchor_sizes=((16, 24),))
    config = ProposerTrainingConfig(
        layout, batch_size=3, num_steps=12, optimizer=SHORT, resize=ResizeConfig("detection", 64, 64)
    )
    given = ProposerArguments(config, arguments.images, arguments.truth)
    logged: dict[int, float] = {}
    stops = [KeyboardInterrupt()]

    def log(metrics: Mapping[str, float], step: int) -> None:
        logged[step] = metrics["loss_objectness"]
        if stops and step == 4:
            raise stops.pop()

    with pytest.raises(KeyboardInterrupt):
        train_proposer(LocalSession(tmp_path, log=log), given)
    resumed = train_proposer(LocalSession(tmp_path, log=log), given)
    whole = train_proposer(LocalSession(), given)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert logged[12] < logged[1]
