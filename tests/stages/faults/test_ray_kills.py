"""SIGKILL of what a run on Ray consists of: an actor, the raylet, the driver; SIGTERM ends it cleanly.

The moments are numbers of committed parts, drawn from fixed seeds: workers of later parts wait until the kill is done.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("no_other_ray")
NUM_PARTS, PART_SIZE = 8, 3


def start_and_hold(drivers: Any, site: Any, go: Path, hold_at: int) -> int:
    """Start a driver on two actors and wait until both have begun a part that they may not end; its process id."""
    before = len(site.begun())
    driver: int = drivers.start(**site.asked, num_workers=2, hold=str(go), hold_at=hold_at * PART_SIZE)
    drivers.until(lambda: len(set(site.working(before).values())) == 2, "both actors are in the middle of a part")
    return driver


def raylet_of(driver: int) -> int:
    """The process id of the raylet that a driver started."""
    [raylet] = [
        int(place.name)
        for place in Path("/proc").glob("[0-9]*")
        if (stat := read(place / "stat")).partition("(")[2].startswith("raylet)")
        and stat.rpartition(")")[2].split()[1] == str(driver)
    ]
    return raylet


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_actors_and_the_raylet_may_be_killed(drivers: Any, undisturbed: Any, site: Any, tmp_path: Path) -> None:
    draw, go = random.Random(1), tmp_path / "go"
    driver = start_and_hold(drivers, site, go, draw.randrange(0, NUM_PARTS - 3))
    for _ in range(2):
        before = len(site.begun())
        drivers.kill(draw.choice(sorted(set(site.working().values()))))
        site.note_kill()
        drivers.until(lambda mark=before: len(site.begun()) > mark, "Ray tries the part of the killed actor again")
    drivers.kill(raylet_of(driver))
    site.note_kill()
    assert drivers.wait() == 1
    assert "Raylet is terminated" in drivers.said()
    assert site.artifact() is None
    assert drivers.run(**site.asked) == 0
    site.check_nothing_was_done_twice()
    assert site.contents() == undisturbed.contents()


def test_the_driver_of_actors_may_be_killed(drivers: Any, undisturbed: Any, site: Any, tmp_path: Path) -> None:
    draw, go = random.Random(2), tmp_path / "go"
    driver = start_and_hold(drivers, site, go, draw.randrange(0, NUM_PARTS - 3))
    orphans = set(site.working().values())
    drivers.kill(driver)
    site.note_kill()
    assert drivers.wait() == -signal.SIGKILL
    drivers.until(lambda: not any(Path(f"/proc/{each}").exists() for each in orphans), "actors end with their driver")

    driver = start_and_hold(drivers, site, go, max(site.committed(), default=0) + 2)
    os.kill(driver, signal.SIGTERM)
    site.note_kill()
    assert drivers.wait() == 130
    said = drivers.said()
    assert "interrupted" in said
    assert "SIGTERM received" not in said
    assert drivers.run(**site.asked) == 0
    site.check_nothing_was_done_twice()
    assert site.contents() == undisturbed.contents()
