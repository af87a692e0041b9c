from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.training.order import batch_indices, rank_slice, step_rng


@settings(max_examples=50, deadline=None)
@given(num_items=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(0, 9), num_steps=st.integers(1, 9))
def test_batches_run_through_whole_epochs_without_a_gap(
    num_items: int, batch_size: int, seed: int, num_steps: int
) -> None:
    sequence = np.concatenate([batch_indices(num_items, batch_size, seed, step) for step in range(num_steps)])
    for start in range(0, len(sequence), num_items):
        epoch = sequence[start : start + num_items]
        assert len(set(epoch.tolist())) == len(epoch)
        assert 0 <= epoch.min() <= epoch.max() < num_items


def test_the_order_differs_between_epochs_and_seeds() -> None:
    first, second = (batch_indices(100, 100, 0, step) for step in (0, 1))
    assert (first != second).any()
    assert (first != batch_indices(100, 100, 1, 0)).any()


@settings(max_examples=30, deadline=None)
@given(share=st.integers(1, 8), world_size=st.integers(1, 8))
def test_ranks_share_a_batch_in_equal_parts(share: int, world_size: int) -> None:
    batch = np.arange(share * world_size)
    parts = [batch[rank_slice(len(batch), rank, world_size)] for rank in range(world_size)]
    assert [len(part) for part in parts] == [share] * world_size
    assert np.concatenate(parts).tolist() == batch.tolist()


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="batch of 10 does not divide among 3 workers"):
        rank_slice(10, 0, 3)


def test_no_items_are_refused() -> None:
    with pytest.raises(ValueError, match="0 items"):
        batch_indices(0, 4, 0, 0)


def test_the_random_source_of_a_step_is_its_own() -> None:
    assert step_rng(1, 5).random() == step_rng(1, 5).random()
    assert len({step_rng(seed, step).random() for seed in range(3) for step in range(3)}) == 9
