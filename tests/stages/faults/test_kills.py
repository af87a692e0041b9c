"""SIGKILL at random moments, without Ray: the moment is a count of changes to the store, drawn from a fixed seed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("seeds", [(1, 2, 3, 4, 5), (6, 7, 8, 9, 10)])
def test_a_driver_killed_at_any_moment_is_taken_up_where_it_was(
    seeds: tuple[int, ...], drivers: Any, undisturbed: Any, site: Any
) -> None:
    changes = int((undisturbed.home / "changes").read_text())
    for seed in seeds:
        assert drivers.run(**site.asked, die_at=random.Random(seed).randrange(changes // len(seeds))) == -9
        site.note_kill()
        assert site.artifact() is None
    assert drivers.run(**site.asked) == 0
    site.check_nothing_was_done_twice()
    assert site.contents() == undisturbed.contents()


@pytest.mark.parametrize("seeds", [(11, 12)])
def test_encode_regions_killed_at_any_moment_is_taken_up_where_it_was(
    seeds: tuple[int, ...], stage_drivers: Any, sources: Path, undisturbed_stages: Any, site: Any
) -> None:
    regions, asked = site.of("regions"), {**site.asked, "sources": str(sources)}
    changes = int((undisturbed_stages.home / "changes").read_text())
    for seed in seeds:
        moment = random.Random(seed).randrange(changes // len(seeds))
        assert stage_drivers.run(**asked, die_at=moment) == -9
        regions.note_kill()
        assert regions.artifact() is None
    assert regions.committed()
    assert stage_drivers.run(**asked) == 0, stage_drivers.said()
    regions.check_nothing_was_done_twice()
    assert regions.contents() == undisturbed_stages.of("regions").contents()


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
    drivers: Any, other_drivers: Any, undisturbed: Any, site: Any
) -> None:
    first = drivers.start(**site.asked, hold_at=2)
    drivers.until(lambda: bool(site.working()), "the first run works")
    other_drivers.start(**site.asked)
    said = f"is being made by process {first} on "
    other_drivers.until(lambda: said in other_drivers.said(), "the other run says for whom it waits")
    site.let_go()
    assert (drivers.wait(), other_drivers.wait()) == (0, 0)
    assert len(site.begun()) == len(undisturbed.begun())
    assert site.contents() == undisturbed.contents()
