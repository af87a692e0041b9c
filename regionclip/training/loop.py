"""The step loop that every training shares: optimizer, gradient average over ranks, log, checkpoints, exact resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from regionclip.training.schedule import OptimizerConfig, clip_gradients, learning_rate, make_optimizer
from regionclip.training.session import Session

LOG_EVERY = 10
CHECKPOINT_EVERY = 200


def run_steps(
    session: Session,
    module: nn.Module,
    losses: Callable[[int], Mapping[str, Tensor]],
    optimizer: OptimizerConfig,
    num_steps: int,
    seed: int,
) -> dict[str, Tensor]:
    """Minimise the sum of `losses(step)` over the trainable parameters of `module`; returns its final state on the CPU.

    A checkpoint holds {"step", "model", "optimizer"}; the last one is always that of `num_steps`. The global torch
    source is seeded from (seed, step, rank) before every step, so a restored run repeats an undisturbed one exactly.
    Raises ValueError when a loss stops being finite.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    assert parameters, "nothing to train"
    stepper = make_optimizer(parameters, optimizer)
    first = _restore(session, module, stepper)
    for step in range(first, num_steps):
        for group in stepper.param_groups:
            group["lr"] = learning_rate(optimizer, step, num_steps)
        torch.manual_seed(_torch_seed(seed, step, session.rank))
        terms = losses(step)
        stepper.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        gradients = average_gradients(parameters, session.world_size)
        if optimizer.clip_norm is not None:
            clip_gradients(gradients, optimizer.clip_norm)
        stepper.step()
        done = step + 1
        if done % LOG_EVERY == 0 or done == num_steps:
            session.log(_numbers(terms, step) | {"learning_rate": learning_rate(optimizer, step, num_steps)}, done)
        if done % CHECKPOINT_EVERY == 0 and done != num_steps:
            session.save(done, _state(done, module, stepper))
    final = _state(num_steps, module, stepper)
    if first < num_steps:
        session.save(num_steps, final)
    return {name: value.detach().cpu() for name, value in module.state_dict().items()}


def average_gradients(parameters: Sequence[nn.Parameter], world_size: int) -> list[Tensor]:
    """The gradients of the parameters, averaged in place over all ranks in one exchange; a missing one is 0."""
    if world_size == 1:
        return [parameter.grad for parameter in parameters if parameter.grad is not None]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world_size
    for gradient, part in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    return gradients


def _restore(session: Session, module: nn.Module, stepper: torch.optim.Optimizer) -> int:
    state = session.restore()
    if state is None:
        return 0
    module.load_state_dict(state["model"])
    stepper.load_state_dict(state["optimizer"])
    return int(state["step"])


def _state(step: int, module: nn.Module, stepper: torch.optim.Optimizer) -> dict[str, Any]:
    return {"step": step, "model": module.state_dict(), "optimizer": stepper.state_dict()}


def _numbers(terms: Mapping[str, Tensor], step: int) -> dict[str, float]:
    numbers = {name: float(value.detach()) for name, value in terms.items()}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value} at step {step}; lower the learning rate or lengthen the warm-up")
    return numbers


def _torch_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))
