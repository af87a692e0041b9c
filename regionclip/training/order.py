"""The order of training items as a pure function of the seed and the step, so that a resumed run continues exactly."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def batch_indices(num_items: int, batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """The items of one global batch: int64 [batch_size], indices into `num_items` items.

    Every epoch is a permutation drawn from (seed, epoch); the epochs follow one another without a gap, so the last
    incomplete batch of one takes its rest from the next, and every item appears equally often. Raises ValueError
    when there are no items.
    """
    if num_items < 1 or batch_size < 1:
        raise ValueError(f"cannot make batches of {batch_size} from {num_items} items; give at least one of each")
    positions = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, offsets = np.divmod(positions, num_items)
    batch = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        of_epoch = epochs == epoch
        batch[of_epoch] = _permutation(num_items, seed, int(epoch))[offsets[of_epoch]]
    return batch


def rank_slice(batch_size: int, rank: int, world_size: int) -> slice:
    """The part of a global batch that a rank works on; raises ValueError unless all parts are equal."""
    if batch_size % world_size:
        raise ValueError(f"a batch of {batch_size} does not divide among {world_size} workers; give a multiple of it")
    share = batch_size // world_size
    return slice(rank * share, (rank + 1) * share)


def step_rng(seed: int, step: int) -> np.random.Generator:
    """The random source of one step; draw for the whole global batch, so that the number of workers changes nothing."""
    return np.random.default_rng((seed, step))


@lru_cache(maxsize=4)
def _permutation(num_items: int, seed: int, epoch: int) -> NDArray[np.int64]:
    order = np.random.default_rng((seed, epoch)).permutation(num_items)
    order.setflags(write=False)
    return order
