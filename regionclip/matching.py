"""Regions to concepts: the distribution of the teacher over a pool, and which regions it is sure of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK, _ROWS = 1 << 23, 4096  # most numbers and rows of a block: enough for a fast product, few enough for the cache

_SORTED, _SELECTED = 128, 4096  # concepts; up to so many are sorted, or selected, by numpy; powers of 2
_GROUPED = 1024  # concepts; the likeliest of more are looked for in groups
_WIDTH = 8  # concepts; products are fast where their number is a multiple of it
_EXCLUDED = -1e30  # a logit as good as -inf, which can be sorted and multiplied by 0


class Matches(NamedTuple):
    """The k likeliest concepts of R regions, and what the softmax over the whole pool says of them.

    concept_ids: int64 [R, k], the likeliest first. log_probabilities: [R, k], with the prior.
    pool_log_probabilities: [R, k], of the same concepts without it.
    log_normalizer: float64 [R], log of the sum of exp(cos / temperature) over the whole pool.
    entropy: [R], of the whole pool; unit: nat.
    margin: [R], the pool's probability of the first concept less that of the likeliest other one; below 0 where a
    prior prefers another concept than the pool.
    """

    concept_ids: Tensor
    log_probabilities: Tensor
    pool_log_probabilities: Tensor
    log_normalizer: Tensor
    entropy: Tensor
    margin: Tensor


def cosine_logits(features: Tensor, embeddings: Tensor, temperature: float) -> Tensor:
    """cos(features [R, D], embeddings [N, D]) / temperature as [R, N], at least float32 even under autocast.

    At the method's temperature of 0.01 a half-precision cosine would be wrong by 0.1 in the logit.
    """
    _check_temperature(temperature)
    precise = _precise(features, embeddings)
    with torch.autocast(features.device.type, enabled=False):
        normalized = functional.normalize(features.to(precise), dim=-1)
        return normalized @ functional.normalize(embeddings.to(precise), dim=-1).T / temperature


def match(
    region_features: Tensor, concept_embeddings: Tensor, temperature: float, log_prior: Tensor | None = None
) -> Tensor:
    """Log-probabilities [R, N] of the concepts [N, D] for each region [R, D]: log_softmax(cos / temperature).

    Neither side needs to be normalised. `log_prior` [R, N] (or broadcast to it) is added to the logits: -inf
    excludes a concept, a finite value weights it. Raises ValueError where a prior excludes every concept.
    """
    _check_pool(concept_embeddings)
    logits = cosine_logits(region_features, concept_embeddings, temperature)
    if log_prior is not None:
        logits = logits + _checked_prior(log_prior.to(logits), logits.shape)
    return logits.log_softmax(dim=-1)


@torch.no_grad()
def match_top(
    region_features: Tensor,
    concept_embeddings: Tensor,
    temperature: float,
    top_k: int,
    log_prior: Tensor | None = None,
    prior_rows: Tensor | None = None,
) -> Matches:
    """What `match` finds, block by block and cut to the `top_k` likeliest concepts, without ever holding [R, N].

    Features [R, D] in any precision and embeddings [N, D] on one device; neither needs to be normalised.
    `log_prior` [P, N] is as in `match`, row `prior_rows[r]` (int64 [R]) of it for region r.
    """
    _check_temperature(temperature)
    _check_pool(concept_embeddings)
    if top_k < 1:
        raise ValueError(f"top_k {top_k} is below 1; keep at least one concept of a region")
    precise, num_concepts = _precise(region_features, concept_embeddings), len(concept_embeddings)
    with torch.autocast(region_features.device.type, enabled=False):
        concepts = functional.normalize(concept_embeddings.to(precise), dim=-1).T / temperature
        concepts = functional.pad(concepts, (0, -num_concepts % _WIDTH))
        if log_prior is not None:
            assert prior_rows is not None
            log_prior = _checked_prior(log_prior.to(concepts), torch.Size([len(log_prior), num_concepts]))
            log_prior = functional.pad(log_prior.clamp(min=_EXCLUDED), (0, -num_concepts % _WIDTH), value=_EXCLUDED)
        top_k = min(top_k, num_concepts)
        found = _room(len(region_features), top_k, concepts, log_prior is not None)
        for rows in _blocks(len(region_features), max(concepts.shape)):
            logits = _logits(region_features[rows].to(precise), concepts)
            logits[:, num_concepts:] = _EXCLUDED
            prior = None if log_prior is None or prior_rows is None else log_prior[prior_rows[rows]]
            for column, part in zip(found, _likeliest(logits, top_k, prior), strict=True):
                column[rows] = part
    return found


def _room(num_rows: int, top_k: int, like: Tensor, with_prior: bool) -> Matches:
    """Memory for the matches of so many regions; without a prior both log-probabilities are the same."""
    of_pool = like.new_empty(num_rows, top_k)
    return Matches(
        concept_ids=like.new_empty(num_rows, top_k, dtype=torch.int64),
        log_probabilities=torch.empty_like(of_pool) if with_prior else of_pool,
        pool_log_probabilities=of_pool,
        log_normalizer=like.new_empty(num_rows, dtype=torch.float64),
        entropy=like.new_empty(num_rows),
        margin=like.new_empty(num_rows),
    )


def _logits(features: Tensor, concepts: Tensor) -> Tensor:
    """features [B, D] normalised @ concepts [D, N]; the narrower side of the product is divided by the length."""
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min_(1e-12)
    if len(concepts) <= concepts.shape[1]:
        return features.div(length) @ concepts
    return (features @ concepts).div_(length)


def _likeliest(logits: Tensor, top_k: int, log_prior: Tensor | None) -> Matches:
    """The matches of logits [B, N], which are overwritten."""
    top, pool_ids = _largest(logits, min(max(top_k, 2), logits.shape[1]))
    best = top[:, :1]
    if log_prior is None:
        ids, chosen = pool_ids[:, :top_k], top[:, :top_k]
        values = None
    else:
        weighted = logits + log_prior
        values, ids = _largest(weighted, top_k)
        values = values - weighted.logsumexp(dim=1, keepdim=True)
        values.masked_fill_(values < _EXCLUDED / 2, -torch.inf)
        chosen = logits.gather(1, ids)
    weights = logits.sub_(best).exp()
    total = weights.sum(dim=1)
    log_total = total.log()
    entropy = log_total - weights.mul_(logits).sum(dim=1) / total
    of_pool = chosen - (best + log_total[:, None])
    other = (top[:, 1] - best[:, 0] - log_total).exp() if top.shape[1] > 1 else torch.zeros_like(total)
    if values is not None:
        other = torch.where(ids[:, 0] == pool_ids[:, 0], other, 1 / total)
    return Matches(
        ids,
        of_pool if values is None else values,
        of_pool,
        best[:, 0].double() + total.double().log(),
        entropy,
        of_pool[:, 0].exp() - other,
    )


def _largest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of finite [B, N] and their columns, the largest first.

    numpy sorts and selects with vector instructions, but gives no columns; here numbers carry theirs along. That takes
    a seventh of the time of torch's top-k for 64 columns and half of it for 1,000.
    """
    num_columns = logits.shape[1]
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        if num_columns > _GROUPED and num_columns % _WIDTH == 0 and 2 * k * _WIDTH <= num_columns:
            return _largest_of_groups(logits, k)
        if num_columns <= _SELECTED:
            return _largest_of_few(logits, k)
    values, ids = logits.topk(k, dim=1)
    return values, ids


def _largest_of_groups(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same, found in those k groups of columns whose largest number is largest, as no other group can hold any."""
    groups = logits.reshape(len(logits), _WIDTH, logits.shape[1] // _WIDTH)
    _, best = _largest(groups.amax(dim=1), k)
    values, places = _largest(groups.gather(2, best[:, None].expand(-1, _WIDTH, -1)).flatten(1), k)
    return values, best.gather(1, places % k) + places.div(k, rounding_mode="floor") * groups.shape[2]


def _largest_of_few(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same by sorting, or selecting and sorting, numbers whose last bits are their columns."""
    # A number in double precision has 29 bits to spare.
    keys = logits.double()
    keys.view(torch.int64).bitwise_or_(torch.arange(logits.shape[1]))
    if logits.shape[1] > _SORTED:
        keys.numpy().partition(logits.shape[1] - k, axis=1)
        keys = keys[:, -k:]
    keys.numpy().sort(axis=1)
    keys = keys[:, -k:].flip(1)
    return keys.float(), keys.view(torch.int64) & (_SELECTED - 1)


def _blocks(num_rows: int, width: int) -> Iterator[slice]:
    """Rows of blocks of at most `_ROWS` rows and `_BLOCK` numbers; one empty block where there are no rows."""
    size = min(_ROWS, max(1, _BLOCK // width))
    for start in range(0, max(num_rows, 1), size):
        yield slice(start, start + size)


def _precise(features: Tensor, embeddings: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(features.dtype, embeddings.dtype), torch.float32)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be positive; the method uses 0.01")


def _check_pool(embeddings: Tensor) -> None:
    if not len(embeddings):
        raise ValueError("the concept pool is empty; give at least one concept to match regions with")


def _checked_prior(log_prior: Tensor, shape: torch.Size) -> Tensor:
    log_prior = log_prior.expand(shape)
    if not bool((log_prior < torch.inf).all()):
        raise ValueError("log_prior holds NaN or +inf; give finite weights, or -inf to exclude a concept")
    impossible = (log_prior == -torch.inf).all(dim=-1).nonzero()
    if len(impossible):
        raise ValueError(
            f"log_prior excludes every concept for {len(impossible)} regions, first is row {int(impossible[0])}; "
            "leave at least one concept possible or leave these regions out"
        )
    return log_prior


def confident(scores: Tensor, threshold: float, keep_all_if_none: bool) -> Tensor:
    """Which scores [R] exceed the threshold, bool [R]; all of them when none does and `keep_all_if_none`."""
    mask = scores > threshold
    if keep_all_if_none and not bool(mask.any()):
        return torch.ones_like(mask)
    return mask
