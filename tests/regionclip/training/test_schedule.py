from __future__ import annotations

import pytest
import torch

from regionclip.training.schedule import OptimizerConfig, clip_gradients, learning_rate, make_optimizer

METHOD = OptimizerConfig(milestones=(300_000, 525_000))


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 1e-3), (500, 0.5005), (1000, 1.0), (299_999, 1.0), (300_000, 0.1), (525_000, 0.01), (599_999, 0.01)],
)
def test_the_method_warms_up_from_a_thousandth_and_steps_down_twice(step: int, factor: float) -> None:
    assert learning_rate(METHOD, step, 600_000) == pytest.approx(0.002 * factor)


@pytest.mark.parametrize(("step", "factor"), [(10, 1.0), (60, 0.5), (110, 0.0)])
def test_cosine_falls_from_the_end_of_the_warm_up_to_zero(step: int, factor: float) -> None:
    config = OptimizerConfig(learning_rate=3.0, schedule="cosine", warmup_steps=10)
    assert learning_rate(config, step, 110) == pytest.approx(3.0 * factor, abs=1e-12)


def test_a_constant_rate_ignores_milestones() -> None:
    config = OptimizerConfig(learning_rate=3.0, schedule="constant", warmup_steps=0, milestones=(5,))
    assert learning_rate(config, 50, 100) == 3.0


def test_each_tensor_is_clipped_by_its_own_norm() -> None:
    large, small = torch.tensor([30.0, 40.0]), torch.tensor([3.0, 0.0])
    clip_gradients([large, small], 5.0)
    torch.testing.assert_close(large, torch.tensor([3.0, 4.0]))
    assert small.tolist() == [3.0, 0.0]


def test_sgd_moves_by_momentum_and_weight_decay() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    stepper = make_optimizer([weight], OptimizerConfig(learning_rate=0.1, momentum=0.5, weight_decay=0.2))
    for _ in range(2):
        weight.grad = torch.tensor([1.0])
        stepper.step()
    first = 1 - 0.1 * 1.2
    assert weight.item() == pytest.approx(first - 0.1 * (0.5 * 1.2 + 1 + 0.2 * first))
