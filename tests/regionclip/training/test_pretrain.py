from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from regionclip.training import loop
from regionclip.training.order import batch_indices, step_rng
from regionclip.training.pretrain import (
    LossWeights,
    PretrainArguments,
    PretrainConfig,
    draw_captions,
    draw_regions,
    pretrain,
    teacher_distribution,
)
from regionclip.training.schedule import OptimizerConfig
from regionclip.training.session import LocalSession

Make = Callable[..., PretrainArguments]


def run(arguments: PretrainArguments, folder: Path | None = None) -> tuple[dict[str, Tensor], dict[int, dict]]:
    logged: dict[int, dict] = {}

    def log(metrics: Mapping[str, float], step: int) -> None:
        logged[step] = dict(metrics)

    return pretrain(LocalSession(folder, log=log), arguments), logged


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_five_steps_lower_the_losses_and_repeat_exactly(
    pretrain_arguments: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    gentle = OptimizerConfig(learning_rate=0.002, warmup_steps=0)
    same_each_step = {
        "batch_size": 6,
        "flip": 0.0,
        "captions_per_image": 1,
        "regions_per_image": 5,
        "optimizer": gentle,
    }
    first, logged = run(pretrain_arguments(**same_each_step))
    second, again = run(pretrain_arguments(**same_each_step))
    assert equal(first, second)
    assert logged == again
    totals = [sum(logged[step][name] for name in ("distillation", "contrastive", "image_text")) for step in range(1, 6)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] - totals[-1] > 0.01


def test_a_resumed_pretraining_ends_in_the_same_bytes(
    pretrain_arguments: Make, interrupted: LocalSession, tmp_path: Path
) -> None:
    whole, _ = run(pretrain_arguments())
    with pytest.raises(KeyboardInterrupt):
        pretrain(interrupted, pretrain_arguments())
    resumed, _ = run(pretrain_arguments(), tmp_path)
    assert equal(whole, resumed)


def test_stem_first_layer_and_batch_norm_stay_as_they_were(pretrain_arguments: Make) -> None:
    arguments = pretrain_arguments()
    before = {name: value.clone() for name, value in arguments.clip.visual.state_dict().items()}
    texts = {name: value.clone() for name, value in arguments.clip.transformer.state_dict().items()}
    after, _ = run(arguments)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in changed} == {"layer2", "layer3", "layer4", "attnpool"}
    assert not any(".bn" in name or "downsample.1" in name for name in changed)
    assert equal(texts, arguments.clip.transformer.state_dict())


def test_a_loss_of_weight_zero_is_not_computed(pretrain_arguments: Make) -> None:
    _, logged = run(pretrain_arguments(losses=LossWeights(0.0, 0.0, 1.0)))
    assert logged[5].keys() == {"image_text", "learning_rate"}
    _, logged = run(pretrain_arguments(losses=LossWeights(1.0, 1.0, 0.0)))
    assert logged[5].keys() == {"distillation", "contrastive", "learning_rate"}


def test_images_without_a_kept_region_still_learn_from_captions(pretrain_arguments: Make) -> None:
    arguments = pretrain_arguments()
    arguments.regions["keep"][:] = False
    with_unkept, logged = run(arguments)
    assert logged[5]["distillation"] == logged[5]["contrastive"] == 0
    control, _ = run(pretrain_arguments(losses=LossWeights(0.0, 0.0, 1.0)))
    assert all(torch.allclose(control[name], with_unkept[name], atol=1e-6) for name in control)


def test_only_kept_regions_are_drawn_and_at_most_so_many_of_an_image(pretrain_arguments: Make) -> None:
    regions = pretrain_arguments().regions
    regions["keep"][:] = np.arange(30) % 5 != 2
    images, rng = np.array([4, 1, 4]), np.random.default_rng(0)
    config = PretrainConfig(regions_per_image=3)
    rows, owner = draw_regions(regions, images, slice(0, 3), config, rng)
    assert owner.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(row // 5 == images[place] for row, place in zip(rows, owner, strict=True))
    assert regions["keep"][rows].all()
    seen = {
        row for step in range(30) for row in draw_regions(regions, images, slice(0, 3), config, step_rng(0, step))[0]
    }
    assert seen == {5, 6, 8, 9, 20, 21, 23, 24}


def test_the_reference_draws_from_all_regions_and_leaves_out_afterwards(pretrain_arguments: Make) -> None:
    regions, images = pretrain_arguments().regions, np.array([4, 1])
    regions["keep"][:] = np.arange(len(regions["keep"])) % 2 == 0
    counts = {"kept": set(), "all": set()}
    for name, seen in counts.items():
        config = PretrainConfig(regions_per_image=2, draw_from=name)
        for step in range(30):
            rows, owner = draw_regions(regions, images, slice(0, 2), config, step_rng(0, step))
            assert regions["keep"][rows].all()
            seen |= set(np.bincount(owner, minlength=2).tolist())
    assert counts == {"kept": {2}, "all": {0, 1, 2}}
    with_rest = PretrainConfig(regions_per_image=2, draw_from="all", if_none_kept="keep_all")
    regions["keep"][:] = False
    assert len(draw_regions(regions, images, slice(0, 2), with_rest, step_rng(0, 0))[0]) == 4


def test_where_nothing_is_kept_the_reference_keeps_all(pretrain_arguments: Make) -> None:
    regions, images = pretrain_arguments().regions, np.array([0, 1])
    regions["keep"][:] = False
    skip, keep_all = PretrainConfig(), PretrainConfig(if_none_kept="keep_all")
    assert len(draw_regions(regions, images, slice(0, 2), skip, np.random.default_rng(0))[0]) == 0
    assert len(draw_regions(regions, images, slice(0, 2), keep_all, np.random.default_rng(0))[0]) == 10
    regions["keep"][7] = True
    assert draw_regions(regions, images, slice(0, 2), keep_all, np.random.default_rng(0))[0].tolist() == [7]


def test_captions_are_drawn_among_the_first_of_an_image(pretrain_arguments: Make) -> None:
    captions = pretrain_arguments().captions
    drawn = [draw_captions(captions, np.array([2, 0]), 5, step_rng(0, step)).tolist() for step in range(20)]
    assert {first for first, _ in drawn} == {4, 5}
    assert {second for _, second in drawn} == {0, 1}
    assert draw_captions(captions, np.array([2]), 1, step_rng(0, 0)).tolist() == [4]


def test_the_stored_top_is_kept_and_the_rest_spread_evenly() -> None:
    probabilities = torch.tensor([[0.5, 0.2, 0.15, 0.1, 0.05]])
    top = probabilities.log().topk(2)
    spread = teacher_distribution(top.indices, top.values, 5).exp()
    torch.testing.assert_close(spread, torch.tensor([[0.5, 0.2, 0.1, 0.1, 0.1]]))


def test_with_all_concepts_stored_the_teacher_is_exact() -> None:
    log_probabilities = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).log_softmax(dim=1)
    log_probabilities[0, 3] = -torch.inf
    top = log_probabilities.topk(6)
    assert torch.equal(teacher_distribution(top.indices.int(), top.values, 6), log_probabilities)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concept_embeddings": torch.zeros(7, 16)}, "embeddings are 16 wide, the student 32"),
        ({"concept_embeddings": torch.zeros(2, 32)}, "but the pool has 2"),
    ],
)
def test_what_does_not_belong_together_is_refused(pretrain_arguments: Make, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(replace(pretrain_arguments(), **change))


def test_nothing_to_learn_is_refused(pretrain_arguments: Make) -> None:
    with pytest.raises(ValueError, match="at least one above 0"):
        run(pretrain_arguments(losses=LossWeights(0.0, 0.0, 0.0)))
    unkept = pretrain_arguments(losses=LossWeights(1.0, 1.0, 0.0))
    unkept.regions["keep"][:] = False
    with pytest.raises(ValueError, match="no region is kept"):
        run(unkept)


def test_a_short_run_reads_only_the_captions_it_draws(
    pretrain_arguments: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []

    def encode(clip: object, texts: list[str], batch_size: int) -> Tensor:
        encoded.extend(texts)
        return torch.ones(len(texts), 32)

    monkeypatch.setattr("regionclip.training.pretrain.encode_texts", encode)
    arguments = pretrain_arguments(num_steps=2, batch_size=3)
    run(arguments)
    drawn = {
        arguments.texts[index]
        for step in range(2)
        for index in draw_captions(arguments.captions, batch_indices(6, 3, 0, step), 5, step_rng(0, step))
    }
    assert set(encoded) == drawn
    assert len(encoded) == 6


class TwoThreads:
    """Stands in for torch.distributed between two threads: each call waits for the other rank."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own, self.barrier, self.slots = threading.local(), threading.Barrier(2, timeout=60), [torch.empty(0)] * 2
        monkeypatch.setattr(torch.distributed, "all_reduce", self.all_reduce)
        monkeypatch.setattr(torch.distributed, "all_gather", self.all_gather)
        monkeypatch.setattr(torch.distributed, "group", SimpleNamespace(WORLD=self))

    def run(self, work: Callable[[int], dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        def of_rank(rank: int) -> dict[str, Tensor]:
            self.own.rank = rank
            return work(rank)

        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(of_rank, range(2)))

    def all_reduce(self, tensor: Tensor, op: object = torch.distributed.ReduceOp.SUM, group: object = None) -> None:
        parts = torch.stack(self._exchange(tensor))
        tensor.copy_(parts.sum(dim=0) if op == torch.distributed.ReduceOp.SUM else parts.min(dim=0).values)

    def all_gather(self, parts: list[Tensor], tensor: Tensor, group: object = None) -> None:
        for part, given in zip(parts, self._exchange(tensor), strict=True):
            part.copy_(given)

    def rank(self) -> int:
        return self.own.rank

    def size(self) -> int:
        return 2

    def _exchange(self, tensor: Tensor) -> list[Tensor]:
        self.slots[self.own.rank] = tensor.detach().clone()
        self.barrier.wait()
        given = list(self.slots)
        self.barrier.wait()
        return given


def test_two_ranks_train_as_one_process_with_the_same_global_batch(
    pretrain_arguments: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"losses": LossWeights(1.0, 0.0, 1.0), "num_steps": 3}
    single, _ = run(pretrain_arguments(**config))

    def rank_of_two(rank: int) -> dict[str, Tensor]:
        session = LocalSession()
        session.rank, session.world_size = rank, 2
        return pretrain(session, pretrain_arguments(**config))

    first, second = TwoThreads(monkeypatch).run(rank_of_two)
    assert equal(first, second)
    start = pretrain_arguments().clip.visual.state_dict()
    moved = {name: (single[name] - start[name]).float().norm() for name in single}
    assert max(moved.values()) > 1e-2
    for name in single:
        assert (first[name] - single[name]).float().norm() <= 1e-3 * moved[name] + 1e-6
