from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regionclip import matching
from regionclip.matching import Matches, confident, cosine_logits, match, match_top


def features(rows: int, width: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def match_oracle(regions: Tensor, concepts: Tensor, temperature: float, log_prior: Tensor | None) -> Tensor:
    rows = []
    for i, region in enumerate(regions.tolist()):
        logits = []
        for j, concept in enumerate(concepts.tolist()):
            dot = sum(a * b for a, b in zip(region, concept, strict=True))
            cosine = dot / math.sqrt(sum(a * a for a in region)) / math.sqrt(sum(b * b for b in concept))
            logits.append(cosine / temperature + (0.0 if log_prior is None else float(log_prior[i, j])))
        largest = max(logits)
        log_sum = largest + math.log(sum(math.exp(logit - largest) for logit in logits))
        rows.append([logit - log_sum for logit in logits])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("with_prior", [False, True])
def test_match_is_the_log_softmax_of_cosines_and_prior(with_prior: bool) -> None:
    regions, concepts = features(4), 7 * features(5, seed=1)
    prior = features(4, 5, seed=2) if with_prior else None
    if prior is not None:
        prior[0, 1] = prior[2, 4] = -math.inf
    expected = match_oracle(regions, concepts, 0.01, prior)
    torch.testing.assert_close(match(regions, concepts, 0.01, prior), expected)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), temperature=st.floats(1e-3, 10), seed=st.integers(0, 1000))
def test_probabilities_sum_to_one_and_ignore_the_length_of_both_sides(
    scale: float, temperature: float, seed: int
) -> None:
    regions, concepts = features(3, seed=seed), features(4, seed=seed + 1)
    matched = match(regions, concepts, temperature)
    torch.testing.assert_close(matched.exp().sum(dim=-1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(match(scale * regions, concepts / scale, temperature), matched, rtol=1e-6, atol=1e-6)


def test_a_prior_excludes_and_weights_concepts() -> None:
    regions, concepts = features(2), features(3, seed=1)
    prior = torch.zeros(2, 3)
    prior[0, 0] = -torch.inf
    prior[1, 2] = math.log(5)
    plain, weighted = match(regions, concepts, 0.5), match(regions, concepts, 0.5, prior)
    assert weighted[0, 0] == -torch.inf
    torch.testing.assert_close(weighted[0, 1:].exp(), plain[0, 1:].exp() / plain[0, 1:].exp().sum())
    odds = (weighted[1, 2] - weighted[1, 0]).exp() / (plain[1, 2] - plain[1, 0]).exp()
    assert float(odds) == pytest.approx(5)


def test_a_prior_of_one_row_serves_all_regions_and_a_constant_changes_nothing() -> None:
    regions, concepts = features(3), features(4, seed=1)
    torch.testing.assert_close(match(regions, concepts, 0.1, torch.full((4,), 3.0)), match(regions, concepts, 0.1))


def test_a_row_without_any_possible_concept_is_refused() -> None:
    prior = torch.zeros(3, 2)
    prior[1:] = -torch.inf
    with pytest.raises(ValueError, match="excludes every concept for 2 regions, first is row 1"):
        match(features(3), features(2, seed=1), 0.01, prior)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_prior_of_nan_or_plus_infinity_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"NaN or \+inf"):
        match(features(1), features(2), 0.01, torch.tensor([[0.0, bad]]))


def test_empty_pools_and_temperatures_of_zero_are_refused_but_no_regions_are_fine() -> None:
    assert match(features(0), features(2), 0.01, torch.zeros(0, 2)).shape == (0, 2)
    with pytest.raises(ValueError, match="concept pool is empty"):
        match(features(2), features(0), 0.01)
    with pytest.raises(ValueError, match=r"temperature 0\.0 must be positive"):
        match(features(2), features(2), 0.0)


def test_extreme_logits_stay_finite_and_a_zero_vector_is_indifferent() -> None:
    matched = match(torch.eye(2), torch.stack([torch.ones(2), -torch.ones(2)]), 1e-6)
    assert matched.isfinite().all()
    torch.testing.assert_close(match(torch.zeros(1, 2), torch.eye(2), 0.01).exp(), torch.full((1, 2), 0.5))


def test_half_precision_features_and_autocast_do_not_lower_the_precision_of_cosines() -> None:
    regions, concepts = features(5, 64, dtype=torch.float32).half(), features(7, 64, 1, torch.float32)
    exact = cosine_logits(regions.double(), concepts.double(), 0.01)
    with torch.autocast("cpu", torch.bfloat16):
        logits = cosine_logits(regions, concepts, 0.01)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), exact, rtol=1e-4, atol=1e-3)


def test_confident_means_strictly_above_the_threshold() -> None:
    scores = torch.tensor([0.05, 0.1, 0.2])
    assert confident(scores, 0.1, keep_all_if_none=True).tolist() == [False, False, True]
    assert confident(scores, 0.3, keep_all_if_none=False).tolist() == [False] * 3
    assert confident(scores, 0.3, keep_all_if_none=True).tolist() == [True] * 3
    assert confident(scores[:0], 0.3, keep_all_if_none=True).shape == (0,)


def entropy_and_margin(probabilities: list[float], first: int) -> tuple[float, float]:
    others = [value for concept, value in enumerate(probabilities) if concept != first]
    entropy = -sum(value * math.log(value) for value in probabilities if value)
    return entropy, probabilities[first] - max(others, default=0.0)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 6),
    concepts=st.integers(1, 7),
    top_k=st.integers(1, 9),
    with_prior=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_likeliest_are_cut_out_of_the_full_distribution(
    rows: int, concepts: int, top_k: int, with_prior: bool, seed: int
) -> None:
    regions, pool = features(rows, seed=seed), features(concepts, seed=seed + 1)
    priors = features(2, concepts, seed=seed + 2)
    which = torch.arange(rows) % 2
    found = match_top(regions, pool, 0.3, top_k, *((priors, which) if with_prior else ()))
    of_pool = match_oracle(regions, pool, 0.3, None)
    guided = match_oracle(regions, pool, 0.3, priors[which]) if with_prior else of_pool
    expected = guided.topk(min(top_k, concepts), dim=1)
    assert torch.equal(found.concept_ids, expected.indices)
    torch.testing.assert_close(found.log_probabilities, expected.values)
    torch.testing.assert_close(found.pool_log_probabilities, of_pool.gather(1, expected.indices))
    for row, probabilities in enumerate(of_pool.exp().tolist()):
        entropy, margin = entropy_and_margin(probabilities, int(expected.indices[row, 0]))
        assert float(found.entropy[row]) == pytest.approx(entropy, abs=1e-9)
        assert float(found.margin[row]) == pytest.approx(margin, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    concepts=st.one_of(st.integers(1, 300), st.sampled_from([1030, 2500, 8200, 9001])),
    top_k=st.one_of(st.integers(1, 40), st.just(200)),
    temperature=st.sampled_from([0.001, 0.01, 1.0]),
    with_prior=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_single_precision_sorts_a_pool_of_any_size_as_its_own_distribution_does(
    concepts: int, top_k: int, temperature: float, with_prior: bool, seed: int
) -> None:
    regions, pool = features(5, seed=seed, dtype=torch.float32), features(concepts, 6, seed + 1, torch.float32)
    prior = features(5, concepts, seed + 2, torch.float32)
    prior[:, 1:][prior[:, 1:] < -0.5] = -torch.inf
    found = match_top(regions, pool, temperature, top_k, *((prior, torch.arange(5)) if with_prior else ()))
    exact = match(regions.double(), pool.double(), temperature, prior.double() if with_prior else None)
    assert [len(set(ids)) for ids in found.concept_ids.tolist()] == [min(top_k, concepts)] * 5
    assert bool((found.log_probabilities.diff(dim=1).nan_to_num() <= 0).all())
    torch.testing.assert_close(
        found.log_probabilities.double().exp(), exact.exp().topk(min(top_k, concepts)).values, rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        found.log_probabilities.double(), exact.gather(1, found.concept_ids), rtol=1e-4, atol=1e-4
    )


def test_a_certain_concept_comes_first_and_equal_ones_in_the_order_of_the_pool() -> None:
    pool = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    found = match_top(torch.tensor([[1.0, 0.0]]), pool, 0.001, 4)
    assert found.concept_ids.tolist() == [[1, 0, 2, 3]]
    assert found.log_probabilities[0, 0] == 0.0


@pytest.mark.parametrize("concepts", [101, 5001])
def test_where_a_prior_excludes_most_concepts_the_rest_is_of_the_pool_too(concepts: int) -> None:
    regions, pool = features(3, dtype=torch.float32), features(concepts, seed=1, dtype=torch.float32)
    prior = torch.full((1, concepts), -math.inf)
    prior[0, [7, 90, concepts - 1]] = 0.0
    for dtype in (torch.float32, torch.float64):
        found = match_top(regions.to(dtype), pool.to(dtype), 0.1, concepts, prior, torch.zeros(3, dtype=torch.int64))
        assert torch.equal(found.concept_ids.sort(dim=1).values, torch.arange(concepts).expand(3, -1))
        assert bool((found.log_probabilities[:, 3:] == -math.inf).all())


def test_the_normaliser_gives_the_probability_of_any_concept_exactly() -> None:
    regions, pool = features(5, 16), features(40, 16, seed=1)
    found = match_top(regions, pool, 0.01, 3)
    logits = cosine_logits(regions, pool, 0.01)
    torch.testing.assert_close(logits - found.log_normalizer[:, None], match(regions, pool, 0.01))


def test_blocks_change_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    regions, pool, prior = features(11), features(5, seed=1), features(2, 5, seed=2)
    which = torch.tensor([0, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1])
    whole = match_top(regions, pool, 0.1, 3, prior, which)
    for limit, value in (("_BLOCK", 4 * 6), ("_ROWS", 3)):
        monkeypatch.setattr(matching, limit, value)
        blocks = match_top(regions, pool, 0.1, 3, prior, which)
        for one, other in zip(whole, blocks, strict=True):
            torch.testing.assert_close(one, other)


def test_half_precision_features_lose_nothing_beyond_single_precision() -> None:
    regions, pool = features(20, 512, dtype=torch.float32).half(), features(3000, 512, 1, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = match_top(regions, pool, 0.01, 32)
    exact = match_top(regions.double(), pool.double(), 0.01, 32)
    assert found.log_probabilities.dtype == torch.float32
    assert (found.pool_log_probabilities.exp() - exact.pool_log_probabilities.exp()).abs().max() < 1e-5
    torch.testing.assert_close(found.entropy.double(), exact.entropy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.log_normalizer, exact.log_normalizer, rtol=1e-6, atol=1e-5)


def test_no_regions_match_nothing_and_inputs_stay_as_they_are() -> None:
    regions, pool = features(3), features(4, seed=1)
    before = regions.clone(), pool.clone()
    match_top(regions, pool, 0.1, 2)
    assert torch.equal(regions, before[0])
    assert torch.equal(pool, before[1])
    nothing: Matches = match_top(regions[:0], pool, 0.1, 2)
    assert nothing.concept_ids.shape == (0, 2)
    assert nothing.entropy.shape == (0,)


def test_a_wrong_number_a_prior_without_choice_and_an_empty_pool_are_refused_when_cut_too() -> None:
    with pytest.raises(ValueError, match="top_k 0 is below 1"):
        match_top(features(1), features(2), 0.1, 0)
    with pytest.raises(ValueError, match="concept pool is empty"):
        match_top(features(1), features(0), 0.1, 1)
    prior = torch.tensor([[-math.inf, -math.inf]])
    with pytest.raises(ValueError, match="excludes every concept for 1 regions"):
        match_top(features(1), features(2), 0.1, 1, prior, torch.zeros(1, dtype=torch.int64))
