"""Peak memory of a process of row work, measured by the kernel."""

from __future__ import annotations

from typing import Any


def test_ten_times_the_items_need_the_memory_of_one(drivers: Any, site: Any) -> None:
    peaks = []
    for times in (1, 10):
        there = type(site)(site.home / str(times))
        there.home.mkdir()
        assert drivers.run(**there.asked, num_items=24 * times, num_rows=2000, peak=True) == 0
        peaks.append(int((there.home / "peak").read_text()))
    assert peaks[1] < 1.1 * peaks[0]
