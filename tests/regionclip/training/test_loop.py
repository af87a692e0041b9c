from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from regionclip.training import loop
from regionclip.training.loop import average_gradients, run_steps
from regionclip.training.schedule import OptimizerConfig
from regionclip.training.session import LocalSession

OPTIMIZERS = [OptimizerConfig(warmup_steps=3), OptimizerConfig(name="adamw", warmup_steps=3, schedule="cosine")]


class StoppedError(Exception):
    pass


def noisy_problem() -> tuple[nn.Module, Callable[[int], Mapping[str, Tensor]]]:
    """A network with BatchNorm and dropout, so that buffers and the random source matter."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 1))

    def losses(step: int) -> Mapping[str, Tensor]:
        data = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return {"fit": (module(data)[:, 0] - data.sum(dim=1)).square().mean()}

    return module, losses


def train(folder: Path | None, optimizer: OptimizerConfig, stop_at: int | None = None) -> tuple[dict, dict]:
    logged = {}

    def log(metrics: Mapping[str, float], step: int) -> None:
        logged[step] = dict(metrics)
        if step == stop_at:
            raise StoppedError

    module, losses = noisy_problem()
    return run_steps(LocalSession(folder, log=log), module, losses, optimizer, 20, seed=1), logged


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "adamw"])
def test_a_resumed_run_ends_in_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, optimizer: OptimizerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 4)
    whole, expected = train(None, optimizer)
    with pytest.raises(StoppedError):
        train(tmp_path, optimizer, stop_at=11)
    resumed, logged = train(tmp_path, optimizer)
    assert min(logged) == 9
    assert all(logged[step] == expected[step] for step in logged)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, _ = train(tmp_path, OPTIMIZERS[0])
    second, logged = train(tmp_path, OPTIMIZERS[0])
    assert logged == {}
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_reduces_the_loss() -> None:
    _, logged = train(None, OptimizerConfig(learning_rate=0.05, warmup_steps=0))
    assert logged[20]["fit"] < logged[10]["fit"] < 4


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    module = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="fit is nan at step 9; lower the learning rate"):
        run_steps(
            LocalSession(),
            module,
            lambda step: {"fit": module(torch.full((1, 1), torch.nan)).sum()},
            OPTIMIZERS[0],
            10,
            0,
        )


def test_gradients_are_averaged_over_ranks_and_missing_ones_count_as_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_other_rank(flat: Tensor) -> None:
        flat += torch.arange(len(flat)) * 10.0

    monkeypatch.setattr(loop.dist, "all_reduce", add_other_rank)
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 1))
    first.grad = torch.tensor([1.0, 2.0])
    gradients = average_gradients([first, second], world_size=2)
    assert [gradient.tolist() for gradient in gradients] == [[0.5, 6.0], [[10.0]]]
    assert first.grad is gradients[0]
    assert second.grad is gradients[1]
