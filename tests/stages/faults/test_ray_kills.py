"""SIGKILL of what a run on Ray consists of: an actor, the driver, the raylet; SIGTERM ends it cleanly.

A moment is a part and one of the changes to the store that its actor makes, drawn from a fixed seed each: the actor
kills the victim just before the change, or when half of a file is written. What was killed is started again at once.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("no_other_ray")
NUM_CHANGES = 9  # an actor makes at least so many to do a part: table, record, count of tries
ACTOR_SEEDS, DRIVER_SEED, RAYLET_SEED = (81, 82, 83, 84, 85, 86, 87, 88), 21, 24


def fate(whom: str, seed: int) -> tuple[str, int]:
    return whom, random.Random(seed).randrange(NUM_CHANGES)


def test_actors_may_be_killed_in_the_midst_of_any_part(drivers: Any, undisturbed: Any, site: Any) -> None:
    fates = {str(part): fate("actor", seed) for part, seed in enumerate(ACTOR_SEEDS)}
    assert drivers.run(**site.asked, num_workers=2, fates=fates) == 0, drivers.said()
    deaths, begun = site.deaths(), [part for _, part in site.begun()]
    assert sorted(death["part"] for death in deaths) == list(range(len(ACTOR_SEEDS)))
    moments = {(death["change"], "record" if "/parts/" in death["name"] else "table") for death in deaths}
    assert moments >= {(change, what) for change in ("write", "os.rename") for what in ("table", "record")}
    assert any(death["part"] in death["done"] for death in deaths)  # recorded, but Ray has not had the answer
    for death in deaths:
        assert begun.count(death["part"]) == (1 if death["part"] in death["done"] else 2)
    site.check_nothing_was_done_twice()
    assert site.contents() == undisturbed.contents()


def test_driver_and_raylet_may_be_killed_in_the_midst_of_a_part(drivers: Any, undisturbed: Any, site: Any) -> None:
    asked = {**site.asked, "num_workers": 2}
    driver = drivers.start(**asked, hold_at=2)
    drivers.until(lambda: len(set(site.working().values())) == 2, "both actors are in the middle of a part")
    os.kill(driver, signal.SIGTERM)
    assert drivers.wait() == 130
    site.note_kill()
    said = drivers.said()
    assert "interrupted" in said
    assert "SIGTERM received" not in said

    before = len(site.begun())
    assert drivers.run(**asked, fates={"3": fate("driver", DRIVER_SEED)}, hold_at=5) == -signal.SIGKILL
    site.note_kill()
    orphans = {process for process, _ in site.begun()[before:]}

    assert drivers.run(**asked, fates={"6": fate("raylet", RAYLET_SEED)}) == 1
    site.note_kill()
    assert "Raylet is terminated" in drivers.said()
    assert [death["whom"] for death in site.deaths()] == ["driver", "raylet"]
    assert site.artifact() is None

    assert drivers.run(**site.asked) == 0
    site.check_nothing_was_done_twice()
    assert site.contents() == undisturbed.contents()
    drivers.until(lambda: not any(Path(f"/proc/{each}").exists() for each in orphans), "actors end with their driver")


def test_a_part_that_keeps_ending_its_process_is_named_and_costs_no_other_part(
    drivers: Any, undisturbed: Any, site: Any
) -> None:
    assert drivers.run(**site.asked, num_workers=1, deadly=6) == 2
    assert (
        "error: part 6 ended its worker process 3 times (first item: 18); look for lack of memory or a broken item, "
        "then run again"
    ) in drivers.said()
    assert [part for _, part in site.begun()].count(6) == 3
    assert site.committed() >= {0, 1, 2, 3, 4, 5}
    assert 6 not in site.committed()
    assert site.artifact() is None
    site.note_kill()
    assert drivers.run(**site.asked) == 0
    site.check_nothing_was_done_twice()
    assert site.contents() == undisturbed.contents()
