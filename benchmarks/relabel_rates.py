"""Regions matched a second, beside the rate of the bare matrix product."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from regionclip.matching import match, match_top
from regionclip.teachers.memory import keep_freed_memory

CHECKED = 256  # regions compared with double precision
PRODUCT_BLOCK = 1 << 23  # numbers of one block of the product


def rates(features: Iterable[Tensor], pool: Tensor, temperature: float, top_k: int, device: str) -> dict[str, Any]:
    """How fast blocks of features are matched with a pool, and the product alone, in turn."""
    keep_freed_memory()
    seconds: list[tuple[float, float, float]] = []
    padded_pool = functional.pad(pool, (0, 0, 0, -len(pool) % 8))
    total, error = 0, {}
    for number, block in enumerate(features):
        if number == 0:
            error = _error(block[:CHECKED], pool, temperature, top_k)
            product_seconds(block, pool, device)  # warms up, as does the next line
            match_top(block, pool, temperature, top_k)
        product, padded = (product_seconds(block, each, device) for each in (pool, padded_pool))
        labelled = _seconds(lambda block=block: match_top(block, pool, temperature, top_k), device)  # type: ignore[misc]
        seconds.append((product, padded, labelled))
        total += len(block)
    ratios = sorted(product / labelled for product, _, labelled in seconds)
    products, padded_products, labelled_in = (sum(column) for column in zip(*seconds, strict=True))
    return {
        "regions": total,
        "concepts": len(pool),
        "width": pool.shape[1],
        "top_k": top_k,
        "temperature": temperature,
        "device": device,
        "threads": torch.get_num_threads(),
        "regions_a_second": round(total / labelled_in),
        "product_regions_a_second": round(total / products),
        "product_gigaflops": round(2e-9 * total * pool.numel() / products, 1),
        "share_of_product_rate": round(statistics.median(ratios), 3),
        "share_of_padded_product_rate": round(padded_products / labelled_in, 3),
        "share_range": [round(ratios[0], 3), round(ratios[-1], 3)],
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "largest_error": error,
    }


def product_seconds(block: Tensor, pool: Tensor, device: str) -> float:
    """Seconds of the matrix product of features [R, D] and a pool [N, D] alone, in single precision."""
    rows = max(1, PRODUCT_BLOCK // max(pool.shape))
    normalized = functional.normalize(block.float(), dim=1)
    out = torch.empty(rows, len(pool), device=device)

    def product() -> None:
        for part in torch.split(normalized, rows):
            torch.mm(part, pool.T, out=out[: len(part)])

    return _seconds(product, device)


def _seconds(work: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _error(block: Tensor, pool: Tensor, temperature: float, top_k: int) -> dict[str, float]:
    """The largest differences from double precision on the same features."""
    found = match_top(block, pool, temperature, top_k)
    exact = match(block.double(), pool.double(), temperature)
    of_found = exact.gather(1, found.concept_ids)
    probability = (found.log_probabilities.double().exp() - of_found.exp()).abs().max()
    entropy = (found.entropy.double() + (exact.exp() * exact).sum(dim=1)).abs().max()
    return {
        "probability": float(probability),
        "log_probability": float((found.log_probabilities - of_found).abs().max()),
        "entropy": float(entropy),
    }


def print_rates(results: dict[str, Any]) -> None:
    """What `match` and `demo` found."""
    print(
        f"{results['regions']:,} regions of width {results['width']}, {results['concepts']:,} concepts, "
        f"top {results['top_k']}"
    )
    print(f"product alone {results['product_regions_a_second']:,} regions/s ({results['product_gigaflops']} GFLOP/s)")
    low, high = results["share_range"]
    share = results["share_of_product_rate"]
    print(f"labelled      {results['regions_a_second']:,} regions/s, {share} of the product's rate ({low} to {high})")
    print(f"{results['share_of_padded_product_rate']} of that with concepts to a multiple of 8, which can be faster")
    print(f"peak memory {results['peak_memory_gb']} GB")
    print(
        "largest error against double precision",
        {name: f"{value:.1e}" for name, value in results["largest_error"].items()},
    )
