"""The demo's recipes over several seeds: box accuracy and AP50 of base, novel and all classes.

    python benchmarks/recipes.py --seeds 0 1 2 --out benchmarks/results/recipes.json

A seed decides the order of training images and all that is drawn in pretraining and transfer; scenes, teacher, student
start and proposals are the same for all. Everything already in the store is reused.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from record import write_result
from rich.console import Console
from rich.table import Table

from pipelines.execute import execute

METRICS = [f"{what}_{group}" for what in ("box_accuracy", "AP50") for group in ("base", "novel", "all")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--store", default=".rgc/store")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    runs = {}
    for seed in arguments.seeds:
        seeded = [*arguments.set, f"pretrain.seed={seed}", f"transfer.seed={seed}"]
        page = execute("all", arguments.config, seeded, arguments.store)
        runs[seed] = json.loads(page.folder.read("comparison.json"))["rows"]
    rows = [row["title"] for row in next(iter(runs.values()))]
    values = {
        name: {metric: [runs[seed][index]["metrics"][metric] for seed in runs] for metric in METRICS}
        for index, name in enumerate(rows)
    }
    print_table(values)
    if arguments.out:
        write_result(arguments.out, arguments.seeds, {"config": arguments.config, "by_seed": values})


def print_table(values: dict[str, dict[str, list[float]]]) -> None:
    """Means in percent, with the standard deviation over seeds where there are several."""
    table = Table("recipe", *(metric.replace("box_accuracy", "acc").replace("_", " ") for metric in METRICS))
    for name, metrics in values.items():
        table.add_row(name, *(_cell(metrics[metric]) for metric in METRICS))
    Console(width=130).print(table)


def _cell(values: list[float]) -> str:
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
