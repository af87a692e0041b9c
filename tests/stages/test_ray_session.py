"""Joining a Ray cluster."""

import os
import socket
import sys
from pathlib import Path

import pytest
import torch

from stages import ray_session


@pytest.mark.usefixtures("ray_session")  # Ray is imported with its settings before this test imports it
def test_an_address_where_nothing_listens_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # bound, but not listening
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray_session, "_address", address)
        with pytest.raises(ValueError, match=f"no Ray cluster answers at {address}.*start it or correct it"):
            ray_session.ensure_ray()


def test_a_gpu_that_this_machine_lacks_is_refused_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ray_session.require_local_gpu(0)
    with pytest.raises(
        ValueError, match=r"num_gpus is 1, but this machine has no CUDA GPU .* set num_gpus in resources"
    ):
        ray_session.require_local_gpu(1)


def test_a_token_is_asked_for_where_there_is_one_or_ray_makes_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def mode(address: str | None) -> str | None:
        monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path)})
        monkeypatch.setattr(ray_session, "_address", address)
        ray_session.ensure_environment()
        return os.environ.get("RAY_AUTH_MODE")

    monkeypatch.delitem(sys.modules, "ray", raising=False)
    assert (mode(None), mode("10.0.0.1:6379")) == ("token", None)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    assert mode("10.0.0.1:6379") == "token"
