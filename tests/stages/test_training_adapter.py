from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed

from regionclip.training.session import Session
from stages.contract import Resources
from stages.local_context import LocalContext
from stages.storage import Folder
from stages.training import fit


def count_up(session: Session, arguments: dict[str, Any]) -> None:
    """Add the sum of (rank + 1) to a weight at each step; save each second step; stop once at `deadly`."""
    if arguments.get("rate", 1.0) <= 0:
        raise ValueError(f"rate is {arguments['rate']}; give a positive one")
    state = session.restore() or {"step": 0, "weight": torch.zeros(2)}
    weight = state["weight"].to(session.device)
    for step in range(state["step"] + 1, arguments["num_steps"] + 1):
        amount = torch.full((2,), session.rank + 1.0)
        if session.world_size > 1:
            torch.distributed.all_reduce(amount)
        weight = weight + amount
        session.log({"weight": float(weight[0]) + session.rank}, step)
        if step % 2 == 0:
            session.save(step, {"step": step, "weight": weight, "rank": session.rank})
        if step == arguments.get("deadly") and not os.path.exists(arguments["grave"]):
            if session.world_size == 1:
                Path(arguments["grave"]).touch()
                raise KeyboardInterrupt
            if session.rank == 1:
                Path(arguments["grave"]).touch()
                os._exit(9)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "out"))


def test_an_interrupted_training_goes_on_from_its_checkpoint(folder: Folder, tmp_path: Path) -> None:
    arguments = {"num_steps": 6, "deadly": 5, "grave": str(tmp_path / "grave")}
    first = LocalContext(folder, Resources(num_workers=0))
    with pytest.raises(KeyboardInterrupt):
        fit(first, count_up, arguments)
    second = LocalContext(folder, Resources(num_workers=0))
    state = fit(second, count_up, arguments)
    assert state["weight"].tolist() == [6.0, 6.0]
    assert [[step for _, step in each.logged] for each in (first, second)] == [[1, 2, 3, 4, 5], [5, 6]]
    assert fit(second, count_up, arguments)["step"] == 6


def test_torch_uses_as_many_threads_as_it_was_given_cpus_and_gives_them_back(folder: Folder) -> None:
    before = torch.get_num_threads()

    def look(session: Session, arguments: dict[str, Any]) -> None:
        session.save(1, {"threads": torch.get_num_threads()})

    assert fit(LocalContext(folder, Resources(num_workers=0, num_cpus=3)), look, {}) == {"threads": 3}
    assert torch.get_num_threads() == before


def test_training_files_stay_in_the_work_folder(folder: Folder) -> None:
    fit(LocalContext(folder, Resources(num_workers=0)), count_up, {"num_steps": 2})
    assert folder.names() == ["work/state.pt"]


def test_two_workers_train_one_model_even_when_one_dies(folder: Folder, tmp_path: Path, ray_session: Any) -> None:
    ray_session.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    context = LocalContext(folder, Resources(num_workers=2))
    state = fit(context, count_up, {"num_steps": 6, "deadly": 3, "grave": str(tmp_path / "grave")})
    assert (tmp_path / "grave").exists()
    assert state["rank"] == 0
    assert state["weight"].tolist() == [18.0, 18.0]
    logged = {step: metrics["weight"] for metrics, step in context.logged}  # a step after a checkpoint may come twice
    assert logged == {step: 3.0 * step for step in range(1, 7)}


def test_an_error_in_a_worker_keeps_its_message(folder: Folder, ray_session: Any) -> None:
    ray_session.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.raises(ValueError, match=r"^rate is -1; give a positive one$"):
        fit(LocalContext(folder, Resources(num_workers=1)), count_up, {"num_steps": 2, "rate": -1})


def test_workers_that_never_fit_are_refused_at_once(folder: Folder, ray_session: Any) -> None:
    cpus = int(ray_session.cluster_resources()["CPU"])
    with pytest.raises(ValueError, match=f"= {cpus + 1}, but the Ray cluster has {cpus}; lower num_workers"):
        fit(LocalContext(folder, Resources(num_workers=cpus + 1)), count_up, {"num_steps": 2})
