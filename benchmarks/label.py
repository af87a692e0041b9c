"""How fast regions are named, by the region encoder alone and by the stage around it, and in how much memory.

    PYTHONPATH=. python benchmarks/label.py bare --out benchmarks/results/label_bare.json
    PYTHONPATH=. python benchmarks/label.py agreement --out benchmarks/results/label_agreement.json
    PYTHONPATH=. python benchmarks/label.py gpu --out benchmarks/results/label_gpu.json
    PYTHONPATH=. python benchmarks/label.py pipeline --out benchmarks/results/label_pipeline.json
    PYTHONPATH=. python benchmarks/label.py memory --out benchmarks/results/label_memory.json

bare: ways to encode regions on the CPU, each in a process of its own, in turn, so that ratios are of one run.
agreement: how often lower precision names a region as fp32 does, with the packaged teacher on drawn scenes.
gpu: images and regions a second, with and without reading images, and what the time goes to.
pipeline: the stage `encode_regions` through Ray beside the bare loop over the same files.
memory: the most memory of each process of four stages, for some images and for more.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from label_agreement import agreement, print_agreement
from label_arrangements import Arrangement, count_flops, matmul_rate
from label_gpu import gpu
from record import write_result


def bare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds an image of each way, their ratios to 'plain', and the share of the machine's matmul rate."""
    size = (arguments.height, arguments.width)
    torch.set_num_threads(arguments.threads)
    flops = count_flops(arguments.model, arguments.boxes, size)
    names = ["plain", "default", "fused", *(["fused, compiled"] if arguments.compiled else [])]
    ways = [Arrangement(name, arguments.model, arguments.threads) for name in names]
    rounds: list[dict[str, dict[str, float]]] = []
    rates, difference, memory = [], dict.fromkeys(names, 0.0), {}
    for number in range(-1, arguments.rounds):
        batch = (number + 1, arguments.images, arguments.boxes, size)
        answers = {way.name: way.run(*batch) for way in ways}
        rate = matmul_rate("cpu")
        for name, answer in answers.items():
            apart = np.abs(answer["features"] - answers["plain"]["features"]).max()
            difference[name] = max(difference[name], float(apart))
            memory[name] = answer["memory_gb"]
        if number >= 0:  # the first round warms up
            rates.append(rate)
            rounds.append({name: answer["seconds"] for name, answer in answers.items()})
    for way in ways:
        way.close()
    return _bare_results(arguments, rounds, rates, flops, {"difference": difference, "memory_gb": memory})


def _bare_results(
    arguments: argparse.Namespace,
    rounds: list[dict[str, dict[str, float]]],
    rates: list[float],
    flops: dict[str, float],
    found: dict[str, dict[str, float]],
) -> dict[str, Any]:
    def median(name: str, part: str) -> float:
        return float(statistics.median(each[name][part] / arguments.images for each in rounds))

    ways: dict[str, Any] = {}
    for name in rounds[0]:
        ratios = [each["plain"]["all"] / each[name]["all"] for each in rounds]
        ways[name] = {
            "seconds_an_image": {part: round(median(name, part), 3) for part in rounds[0][name]},
            "regions_a_second": round(arguments.boxes / median(name, "all"), 1),
            "faster_than_plain": round(statistics.median(ratios), 2),
            "faster_than_plain_range": [round(min(ratios), 2), round(max(ratios), 2)],
            "largest_difference": found["difference"][name],
            "peak_memory_gb": round(found["memory_gb"][name], 2),
        }
    share = {
        part: round(
            statistics.median(
                flops[part] * arguments.images / each["fused"][part] / rate
                for each, rate in zip(rounds, rates, strict=True)
            ),
            2,
        )
        for part in flops
    }
    settings = {name: getattr(arguments, name) for name in ("model", "boxes", "height", "width", "images", "rounds")}
    return {
        "settings": {**settings, "threads": arguments.threads},
        "ways": ways,
        "gigaflops_an_image": {part: round(count / 1e9, 1) for part, count in flops.items()},
        "matmul_gigaflops": round(statistics.median(rates) / 1e9, 1),
        "share_of_matmul_rate": share,
    }


def print_bare(results: dict[str, Any]) -> None:
    """The table of `bare`."""
    print(f"{'way':<17} {'s/image':>8} {'map':>6} {'last':>6} {'pool':>6} {'regions/s':>10} {'x plain':>8}  max diff")
    for name, way in results["ways"].items():
        seconds = way["seconds_an_image"]
        parts = " ".join(
            f"{seconds[part]:6.2f}" if part in seconds else " " * 6 for part in ("feature_map", "last_stage", "pool")
        )
        print(
            f"{name:<17} {seconds['all']:8.2f} {parts} {way['regions_a_second']:10.1f} "
            f"{way['faster_than_plain']:8.2f}  {way['largest_difference']:.1e}"
        )
    for part, share in results["share_of_matmul_rate"].items():
        print(f"{part}: {share} of the matmul rate of {results['matmul_gigaflops']} GFLOP/s")


def main() -> None:
    """Run one of the benchmarks and print, or also record, its numbers."""
    arguments = _parser().parse_args()
    if arguments.benchmark == "bare":
        results = bare(arguments)
        print_bare(results)
    elif arguments.benchmark == "agreement":
        results = agreement()
        print_agreement(results)
    elif arguments.benchmark == "gpu":
        results = gpu(arguments.model, (arguments.height, arguments.width))
    else:
        results = _with_stages(arguments)
        print(json.dumps(results, indent=1))
    if arguments.out:
        write_result(arguments.out, [0], results)


def _with_stages(arguments: argparse.Namespace) -> dict[str, Any]:
    """'pipeline' or 'memory', which alone need Ray."""
    if arguments.benchmark == "memory":
        from label_memory import memory

        return memory(arguments.images, arguments.times, arguments.workers)
    from label_pipeline import pipeline
    from label_pipeline_way import Settings

    names = ("images", "short_side", "boxes", "workers", "part_size", "batch_size", "model", "fused")
    return pipeline(Settings(**{name: getattr(arguments, name) for name in names}), arguments.rounds, arguments.ways)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    recorded = argparse.ArgumentParser(add_help=False)
    recorded.add_argument("--out", type=Path)
    common = argparse.ArgumentParser(add_help=False, parents=[recorded])
    common.add_argument("--model", default="RN50-quickgelu")
    common.add_argument("--boxes", type=int, default=100)
    kinds = parser.add_subparsers(dest="benchmark", required=True)
    one = kinds.add_parser("bare", parents=[common])
    one.add_argument("--images", type=int, default=2, help="images of one batch")
    one.add_argument("--rounds", type=int, default=5)
    one.add_argument("--threads", type=int, default=torch.get_num_threads())
    one.add_argument("--compiled", action="store_true", help="time torch.compile too")
    for sized in (one, kinds.add_parser("gpu", parents=[common])):
        sized.add_argument("--height", type=int, default=750)
        sized.add_argument("--width", type=int, default=1333)
    kinds.add_parser("agreement", parents=[recorded])
    one = kinds.add_parser("pipeline", parents=[common])
    one.add_argument("--images", type=int, default=320)
    one.add_argument("--short-side", type=int, default=750, help="pixels; the long side is 16/9 of it")
    one.add_argument("--workers", type=int, default=2, help="of one CPU each; also the threads of the bare loop")
    one.add_argument("--part-size", type=int, default=16)
    one.add_argument("--batch-size", type=int, default=4)
    one.add_argument("--fused", action="store_true", help="the teacher's fused form")
    one.add_argument("--rounds", type=int, default=1)
    one.add_argument(
        "--ways", nargs="+", help="of 'bare', which must be there, and workers x CPUs of each; 0x2 is in place"
    )
    one = kinds.add_parser("memory", parents=[recorded])
    one.add_argument("--images", type=int, default=512, help="a full part for each of two workers")
    one.add_argument("--times", type=int, default=10, help="the second run has so many times the images")
    one.add_argument("--workers", type=int, default=2)
    return parser


if __name__ == "__main__":
    main()
