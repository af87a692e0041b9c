"""Two nodes of a cluster on one machine: both work, and the loss of one costs the parts it had begun."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.ray_session import ensure_environment


@pytest.fixture
def cluster(no_other_ray: None) -> Iterator[Any]:
    """A head of 2 CPUs."""
    ensure_environment()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def test_regions_and_labels_made_across_two_machines_survive_the_loss_of_one(
    stage_drivers: Any, sources: Path, undisturbed_stages: Any, site: Any, cluster: Any
) -> None:
    asked = {**site.asked, "sources": str(sources), "label": True, "address": cluster.address}
    second = cluster.add_node(num_cpus=2)
    stage_drivers.start(**asked, num_workers=2, num_cpus=1.1, hold_at=3)  # a node has no room for two
    for made in (site.of("regions"), site.of("region_labels")):
        stage_drivers.until(lambda made=made: len(set(made.working().values())) == 2, f"both nodes make {made.kind}")
        lose(cluster, second, stage_drivers, made)
        if made.kind == "regions":
            second = cluster.add_node(num_cpus=2)
        made.let_go()
        stage_drivers.until(lambda made=made: made.artifact() is not None, f"{made.kind} are made")
        made.check_nothing_was_done_twice()
        assert made.contents() == undisturbed_stages.of(made.kind).contents()
    assert stage_drivers.wait() == 0, stage_drivers.said()


def lose(cluster: Any, node: Any, drivers: Any, made: Any) -> None:
    """Take away a node which, like the other one, is in the middle of a part."""
    machines = {process: parent_of(process) for process in made.working().values()}
    there = [process for process, raylet in machines.items() if raylet == node.all_processes["raylet"][0].process.pid]
    assert len(there) == 1
    cluster.remove_node(node, allow_graceful=False)
    drivers.until(lambda: not any(Path(f"/proc/{each}").exists() for each in there), "the lost node's actors end")
    made.note_kill()


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
