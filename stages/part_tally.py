"""Counts over the finished parts of row work, and when too much of it is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

NUM_REASONS_SHOWN = 3


@dataclass(frozen=True)
class PartsSummary:
    """Totals over all parts, those of earlier attempts included.

    num_rows: table name -> rows. counts: name -> sum of what the workers counted beside their tables.
    """

    num_items: int
    num_parts: int
    num_rejected: int
    num_rows: Mapping[str, int]
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """The totals as flat numbers: num_items, num_rejected, num_<table> and num_<count>."""
        rows = {f"num_{name}": float(count) for name, count in (*self.num_rows.items(), *self.counts.items())}
        return {"num_items": float(self.num_items), "num_rejected": float(self.num_rejected), **rows}


@dataclass
class Tally:
    """Totals of the records that were added; `table`: whose rows count instead of items."""

    num_items: int
    max_rejected_fraction: float
    table: str | None
    num_done: int = 0
    num_rejected: int = 0
    num_rows: dict[str, int] = field(default_factory=dict, init=False)
    counts: dict[str, int] = field(default_factory=dict, init=False)
    reasons: list[str] = field(default_factory=list, init=False)

    def add(self, *records: Mapping[str, Any]) -> Self:
        """Count finished parts; the tally itself."""
        for record in records:
            self.num_done += record["num_items"]
            self.num_rejected += record["num_rejected"]
            self.reasons = (self.reasons + record["reasons"])[:NUM_REASONS_SHOWN]
            for table, file in record["files"].items():
                self.num_rows[table] = self.num_rows.get(table, 0) + file["rows"]
            for name, count in record.get("counts", {}).items():
                self.counts[name] = self.counts.get(name, 0) + count
        return self

    def problem(self) -> str:
        """Why the work has to stop, or ''."""
        if self.table is not None and self.num_done < self.num_items:
            return ""
        total = self.num_items if self.table is None else self.num_rows[self.table] + self.num_rejected
        if self.num_rejected <= self.max_rejected_fraction * total:
            return ""
        what = f"items are rejected after {self.num_done}" if self.table is None else "rows are rejected"
        return (
            f"{self.num_rejected} of {total} {what}, more than max_rejected_fraction={self.max_rejected_fraction:g} "
            f"allows; first: {'; '.join(self.reasons)}; repair the items or raise max_rejected_fraction"
        )

    def check(self) -> None:
        """Raise ValueError with the problem, if there is one."""
        if problem := self.problem():
            raise ValueError(problem)
