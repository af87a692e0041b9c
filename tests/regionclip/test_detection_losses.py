import math

import pytest
import torch
from torch import Tensor

from regionclip.boxes import encode_deltas
from regionclip.detection_losses import box_regression_loss, focal_scaled_cross_entropy, weighted_cross_entropy


def case() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    logits = (3 * torch.randn(12, 5, dtype=torch.float64)).requires_grad_()
    return logits, torch.randint(5, (12,))


def terms(logits: Tensor, labels: Tensor, background_weight: float) -> list[tuple[float, float, float]]:
    """(weight, probability of the true class, cross-entropy) of each region."""
    rows = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        p = math.exp(row[label]) / sum(math.exp(value) for value in row)
        rows.append((background_weight if label == len(row) - 1 else 1.0, p, -math.log(p)))
    return rows


def test_focal_scaled_loss_equals_the_loop_divided_by_the_regions() -> None:
    logits, labels = case()
    assert (labels == 4).any()
    expected = sum(w * (1 - p) ** 0.5 * ce for w, p, ce in terms(logits, labels, 0.2)) / len(labels)
    assert focal_scaled_cross_entropy(logits, labels, 0.5, 0.2).item() == pytest.approx(expected, rel=1e-12)


def test_weighted_loss_equals_the_loop_divided_by_the_weights() -> None:
    logits, labels = case()
    rows = terms(logits, labels, 0.8)
    expected = sum(w * ce for w, _, ce in rows) / sum(w for w, _, _ in rows)
    assert weighted_cross_entropy(logits, labels, 0.8).item() == pytest.approx(expected, rel=1e-12)


def test_the_focal_factor_carries_gradient() -> None:
    logits, labels = case()
    assert torch.autograd.gradcheck(lambda x: focal_scaled_cross_entropy(x, labels, 0.5, 0.2), (logits,))


def test_gradient_stays_finite_where_a_region_is_certain() -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    loss = focal_scaled_cross_entropy(logits, torch.tensor([0, 0]), 0.5, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(100.0)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_box_loss_equals_the_loop_over_the_foreground_divided_by_all_regions() -> None:
    torch.manual_seed(0)
    corners = 50 * torch.rand(6, 2, 2, dtype=torch.float64)
    proposals, targets = (torch.cat((c, c + 10), dim=1) for c in corners.unbind(1))
    deltas = torch.randn(6, 4, dtype=torch.float64)
    foreground = torch.tensor([True, False, True, True, False, False])
    encoded = encode_deltas(proposals, targets)
    rows = [i for i in range(6) if foreground[i]]
    expected = sum(abs(float(deltas[i, j] - encoded[i, j])) for i in rows for j in range(4)) / 6
    assert box_regression_loss(deltas, proposals, targets, foreground).item() == pytest.approx(expected, rel=1e-12)


def test_background_targets_are_not_read() -> None:
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).repeat(2, 1)
    targets = torch.tensor([[0.0, 0.0, 8.0, 8.0], [float("nan")] * 4])
    loss = box_regression_loss(torch.ones(2, 4), boxes, targets, torch.tensor([True, False]))
    assert loss.item() == pytest.approx(2.0)


def test_no_regions_give_zero_with_a_gradient_path() -> None:
    logits, deltas = torch.empty(0, 5, requires_grad=True), torch.empty(0, 4, requires_grad=True)
    labels, boxes = torch.empty(0, dtype=torch.int64), torch.empty(0, 4)
    losses = (
        focal_scaled_cross_entropy(logits, labels, 0.5, 0.2),
        weighted_cross_entropy(logits, labels, 0.8),
        box_regression_loss(deltas, boxes, boxes, labels < 4),
    )
    for loss in losses:
        assert loss.item() == 0
        loss.backward()  # type: ignore[no-untyped-call]
