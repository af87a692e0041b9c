"""Two nodes of a cluster on one machine: both work, and the loss of one costs the parts it had begun."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.ray_session import ensure_environment


@pytest.fixture
def cluster(no_other_ray: None) -> Iterator[Any]:
    """A head and a second node, of 2 CPUs each."""
    ensure_environment()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def test_labels_across_two_machines_survive_the_loss_of_one(
    drivers: Any, undisturbed: Any, site: Any, cluster: Any, tmp_path: Path
) -> None:
    lost, go = cluster.add_node(num_cpus=2), tmp_path / "go"
    asked = {**site.asked, "num_workers": 3, "address": cluster.address}
    drivers.start(**asked, hold=str(go), hold_at=9)
    drivers.until(lambda: len(set(site.working().values())) == 3, "three actors are in the middle of a part")
    raylets = {process: parent_of(process) for process in site.working().values()}
    assert len(set(raylets.values())) == 2
    there = [process for process, raylet in raylets.items() if raylet == lost.all_processes["raylet"][0].process.pid]
    assert there
    cluster.remove_node(lost, allow_graceful=False)
    drivers.until(lambda: not any(Path(f"/proc/{each}").exists() for each in there), "the lost node's actors end")
    site.note_kill()
    go.touch()
    assert drivers.wait() == 0, drivers.said()
    site.check_nothing_was_done_twice()
    assert site.contents() == undisturbed.contents()


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
