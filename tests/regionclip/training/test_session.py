from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regionclip.training.session import LocalSession


def state(value: float) -> dict[str, object]:
    return {"step": int(value), "model": {"weight": torch.full((2,), value)}}


def test_the_newest_checkpoint_is_restored_by_another_session(tmp_path: Path) -> None:
    session = LocalSession(tmp_path)
    assert session.restore() is None
    session.save(2, state(2.0))
    session.save(10, state(10.0))
    restored = LocalSession(tmp_path).restore()
    assert restored is not None
    assert restored["step"] == 10
    assert restored["model"]["weight"].tolist() == [10.0, 10.0]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010.pt"]


def test_a_write_that_was_cut_off_is_no_checkpoint(tmp_path: Path) -> None:
    LocalSession(tmp_path).save(2, state(2.0))
    (tmp_path / "step-00000004.partial-17").write_bytes(b"half")
    restored = LocalSession(tmp_path).restore()
    assert restored is not None
    assert restored["step"] == 2


def test_without_a_folder_the_kept_state_is_a_copy() -> None:
    session, weight = LocalSession(), torch.zeros(2)
    session.save(1, {"weight": weight})
    weight += 1
    restored = session.restore()
    assert restored is not None
    assert restored["weight"].tolist() == [0.0, 0.0]


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"model": Path("/")}, tmp_path / "step-00000001.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        LocalSession(tmp_path).restore()


def test_metrics_reach_the_given_log() -> None:
    seen = []
    LocalSession(log=lambda metrics, step: seen.append((dict(metrics), step))).log({"loss": 1.0}, 3)
    assert seen == [({"loss": 1.0}, 3)]
