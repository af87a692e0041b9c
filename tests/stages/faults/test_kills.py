"""SIGKILL at random moments, without Ray: the moment is a count of changes to the store, drawn from a fixed seed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

NUM_KILLS = 4


@pytest.mark.parametrize("seed", range(4))
def test_a_driver_killed_at_any_moment_is_taken_up_where_it_was(
    seed: int, drivers: Any, undisturbed: Any, site: Any
) -> None:
    draw = random.Random(seed)
    changes = int((undisturbed.home / "changes").read_text())
    for _ in range(NUM_KILLS):
        assert drivers.run(**site.asked, die_at=draw.randrange(changes // NUM_KILLS)) == -9
        site.note_kill()
        assert site.artifact() is None
    assert drivers.run(**site.asked) == 0
    site.check_nothing_was_done_twice()
    assert site.contents() == undisturbed.contents()


def test_a_driver_killed_at_the_very_end_leaves_all_or_nothing(drivers: Any, undisturbed: Any, site: Any) -> None:
    changes = int((undisturbed.home / "changes").read_text())
    finished = set()
    for last in range(1, 9):
        there = type(site)(site.home / str(last))
        there.home.mkdir()
        assert drivers.run(**there.asked, die_at=changes - last) == -9
        there.note_kill()
        finished.add(there.artifact() is not None)
        assert drivers.run(**there.asked) == 0
        there.check_nothing_was_done_twice()
        assert there.contents() == undisturbed.contents()
    assert finished == {True, False}


def test_of_two_runs_at_once_one_works_and_the_other_says_which_and_waits_for_it(
    drivers: Any, other_drivers: Any, undisturbed: Any, site: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    first = drivers.start(**site.asked, hold=str(go), hold_at=6)
    drivers.until(lambda: bool(site.working()), "the first run works")
    other_drivers.start(**site.asked)
    said = f"is being made by process {first} on "
    other_drivers.until(lambda: said in other_drivers.said(), "the other run says for whom it waits")
    go.touch()
    assert (drivers.wait(), other_drivers.wait()) == (0, 0)
    assert len(site.begun()) == len(undisturbed.begun())
    assert site.contents() == undisturbed.contents()
