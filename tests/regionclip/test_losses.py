from __future__ import annotations

import math
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import torch
from torch import Tensor, distributed

from regionclip.losses import (
    concept_contrastive_loss,
    gather_with_gradient,
    image_text_loss,
    region_distillation_loss,
)
from regionclip.matching import match

TEMPERATURE = 0.1


def rows(count: int, width: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(first: Tensor, second: Tensor) -> float:
    dot = sum(a * b for a, b in zip(first.tolist(), second.tolist(), strict=True))
    return dot / math.sqrt(sum(a * a for a in first.tolist())) / math.sqrt(sum(b * b for b in second.tolist()))


def scores(regions: Tensor, targets: Tensor) -> list[list[float]]:
    return [[cosine(region, target) / TEMPERATURE for target in targets] for region in regions]


def softmax(logits: list[float]) -> list[float]:
    total = sum(math.exp(logit) for logit in logits)
    return [math.exp(logit) / total for logit in logits]


def test_distillation_is_the_mean_divergence_from_the_teacher() -> None:
    regions, concepts, teacher = rows(3), 5 * rows(4, seed=1), match(rows(3, seed=2), rows(4, seed=1), TEMPERATURE)
    total = 0.0
    for region, log_probabilities in zip(scores(regions, concepts), teacher.tolist(), strict=True):
        student = softmax(region)
        total += sum(math.exp(q) * (q - math.log(p)) for q, p in zip(log_probabilities, student, strict=True))
    assert float(region_distillation_loss(regions, concepts, teacher, TEMPERATURE)) == pytest.approx(total / 3)


def test_distillation_is_zero_with_zero_gradient_when_the_student_is_the_teacher() -> None:
    regions, concepts = rows(3).requires_grad_(), rows(4, seed=1)
    loss = region_distillation_loss(regions, concepts, match(regions, concepts, 0.01), 0.01)
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert regions.grad is not None
    assert regions.grad.abs().max() < 1e-9


def test_a_concept_the_teacher_excludes_counts_nothing_but_still_competes() -> None:
    regions, concepts = rows(2).requires_grad_(), rows(3, seed=1)
    prior = torch.tensor([0.0, -torch.inf, 0.0])
    teacher = match(rows(2, seed=2), concepts, TEMPERATURE, prior)
    total = 0.0
    for region, log_probabilities in zip(scores(regions.detach(), concepts), teacher.tolist(), strict=True):
        student = softmax(region)
        total += sum(math.exp(log_probabilities[k]) * (log_probabilities[k] - math.log(student[k])) for k in (0, 2))
    loss = region_distillation_loss(regions, concepts, teacher, TEMPERATURE)
    loss.backward()
    assert loss.item() == pytest.approx(total / 2)
    assert regions.grad is not None
    assert regions.grad.isfinite().all()


def test_contrastive_loss_sums_the_regions_of_one_label_inside_the_log() -> None:
    concepts, labels = rows(4, seed=1), torch.tensor([2, 0, 2, 3, 0])
    regions, targets = rows(5), concepts[labels]
    total = 0.0
    for i, row in enumerate(scores(regions, targets)):
        same = sum(math.exp(score) for j, score in enumerate(row) if labels[j] == labels[i])
        total -= math.log(same / sum(math.exp(score) for score in row))
    assert float(concept_contrastive_loss(regions, targets, labels, TEMPERATURE)) == pytest.approx(total / 5)


def test_contrastive_loss_of_one_label_alone_is_zero() -> None:
    targets = rows(1, seed=1).expand(4, -1)
    assert float(concept_contrastive_loss(rows(4), targets, torch.zeros(4), TEMPERATURE)) == pytest.approx(0)


def test_image_text_loss_is_symmetric_cross_entropy_on_the_diagonal() -> None:
    images, texts = rows(4), 3 * rows(4, seed=1)
    table = scores(images, texts)
    total = 0.0
    for i in range(4):
        total -= math.log(softmax(table[i])[i]) + math.log(softmax([row[i] for row in table])[i])
    assert float(image_text_loss(images, texts, TEMPERATURE)) == pytest.approx(total / 8)
    swapped = image_text_loss(texts, images, TEMPERATURE)
    torch.testing.assert_close(swapped, image_text_loss(images, texts, TEMPERATURE))


def distillation(regions: Tensor, targets: Tensor, temperature: float) -> Tensor:
    teacher = match(targets, targets, temperature) if len(targets) else targets.new_zeros(0, 0)
    return region_distillation_loss(regions, targets, teacher, temperature)


def contrastive(regions: Tensor, targets: Tensor, temperature: float) -> Tensor:
    return concept_contrastive_loss(regions, targets, torch.arange(len(regions)), temperature)


@pytest.mark.parametrize("loss", [distillation, contrastive, image_text_loss])
class TestEveryLoss:
    def test_is_finite_with_a_finite_gradient_at_extreme_logits(self, loss: Callable[..., Tensor]) -> None:
        targets = torch.eye(3)
        regions = (-targets).requires_grad_()
        value = loss(regions, targets, 1e-5)
        value.backward()
        assert value.isfinite()
        assert value > 1e3
        assert regions.grad is not None
        assert regions.grad.isfinite().all()

    def test_of_an_empty_set_is_zero_and_reaches_the_weights(self, loss: Callable[..., Tensor]) -> None:
        weight = torch.ones(4, 4, requires_grad=True)
        value = loss(torch.zeros(0, 4) @ weight, torch.zeros(0, 4), 0.01)
        value.backward()
        assert value.item() == 0
        assert weight.grad is not None
        assert not weight.grad.any()

    def test_is_computed_in_single_precision_under_autocast(self, loss: Callable[..., Tensor]) -> None:
        regions, targets = rows(4, 32).float(), rows(4, 32, seed=1).float()
        exact = loss(regions.double(), targets.double(), 0.01)
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(regions, targets, 0.01)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact.item(), rel=1e-4)

    def test_ignores_the_length_of_features_and_has_a_correct_gradient(self, loss: Callable[..., Tensor]) -> None:
        regions, targets = rows(3).requires_grad_(), rows(3, seed=1)
        torch.testing.assert_close(loss(9 * regions, targets / 9, 0.5), loss(regions, targets, 0.5))
        assert torch.autograd.gradcheck(lambda features: loss(features, targets, 0.5), (regions,))


def test_gather_without_a_group_gives_the_tensor_itself() -> None:
    tensor = rows(2)
    assert gather_with_gradient(tensor) is tensor


def in_two_ranks(work: Callable[[int, distributed.ProcessGroup], Tensor]) -> list[Tensor]:
    """The results of `work(rank, group)` of two gloo ranks that live in threads of this process."""
    store, results = distributed.HashStore(), dict[int, Tensor]()

    def rank_main(rank: int) -> None:
        results[rank] = work(rank, distributed.ProcessGroupGloo(store, rank, 2, timedelta(seconds=10)))

    threads = [threading.Thread(target=rank_main, args=(rank,), daemon=True) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return [results[rank] for rank in range(2)]


def test_the_gathered_loss_and_its_gradient_are_those_of_one_process_with_all_rows() -> None:
    images, texts = rows(4), rows(4, seed=1)
    whole = images.clone().requires_grad_()
    expected = image_text_loss(whole, texts, TEMPERATURE)
    expected.backward()

    def work(rank: int, group: distributed.ProcessGroup) -> Tensor:
        own = images[2 * rank : 2 * rank + 2].clone().requires_grad_()
        loss = image_text_loss(
            own, texts[2 * rank : 2 * rank + 2], TEMPERATURE, lambda tensor: gather_with_gradient(tensor, group)
        )
        torch.testing.assert_close(loss, expected)
        loss.backward()
        assert own.grad is not None
        return own.grad / 2  # what averaging over two ranks makes of the summed gradient

    torch.testing.assert_close(torch.cat(in_two_ranks(work)), whole.grad)


def test_gathering_cuts_every_rank_to_the_smallest() -> None:
    def work(rank: int, group: distributed.ProcessGroup) -> Tensor:
        return gather_with_gradient(torch.arange(3.0 - rank)[:, None] + 10 * rank, group)

    first, second = in_two_ranks(work)
    assert first[:, 0].tolist() == second[:, 0].tolist() == [0, 1, 10, 11]
