import pytest
import torch
from torch import Tensor

from regionclip.detections import InferenceConfig, class_scores, select_detections

NAN = float("nan")
FAR_APART = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [40.0, 0.0, 50.0, 10.0]])


def test_background_takes_its_share_and_leaves() -> None:
    scores = class_scores(torch.tensor([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]]), torch.zeros(2), InferenceConfig())
    torch.testing.assert_close(scores, torch.tensor([[1 / 3, 1 / 3], [1.0, 0.0]]))


def test_sigmoid_objectness_is_a_geometric_mean_of_probabilities() -> None:
    logits, objectness = torch.tensor([[2.0, -1.0, 0.0]]), torch.tensor([-1.5])
    plain = class_scores(logits, objectness, InferenceConfig())
    fused = class_scores(logits, objectness, InferenceConfig(multiply_objectness=True))
    torch.testing.assert_close(fused, (plain * torch.sigmoid(torch.tensor(-1.5))).sqrt())


def test_raw_logits_may_exceed_one_and_drop_negative_proposals() -> None:
    config = InferenceConfig(multiply_objectness=True, objectness="raw_logit")
    scores = class_scores(torch.full((3, 2), 50.0) * torch.tensor([1.0, 0.0]), torch.tensor([4.0, -0.1, 0.0]), config)
    assert scores[0, 0].item() == pytest.approx(2.0)
    detections = select_detections(FAR_APART, scores, None, config)
    assert detections.proposal_indices.tolist() == [0]


def test_proposal_indices_refer_to_the_proposals_given() -> None:
    scores = torch.tensor([[NAN, 0.9], [0.2, 0.6], [0.7, 0.1]])
    detections = select_detections(FAR_APART, scores, None, InferenceConfig(score_threshold=0.15))
    assert detections.proposal_indices.tolist() == [2, 1, 1]
    assert detections.labels.tolist() == [0, 1, 0]
    assert torch.equal(detections.boxes, FAR_APART[detections.proposal_indices])
    assert torch.equal(detections.scores, scores[detections.proposal_indices, detections.labels])


def test_boxes_are_clipped_and_those_outside_the_image_dropped() -> None:
    detections = select_detections(FAR_APART, torch.full((3, 1), 0.5), (6, 25), InferenceConfig())
    assert detections.boxes.tolist() == [[0.0, 0.0, 10.0, 6.0], [20.0, 0.0, 25.0, 6.0]]


@pytest.mark.parametrize("soft_nms", [None, "gaussian", "linear"])
def test_the_best_detections_of_the_image_are_kept(soft_nms: str | None) -> None:
    torch.manual_seed(0)
    boxes, scores = crowd(40), torch.rand(40, 3)
    everything = InferenceConfig(max_detections=1000, soft_nms=soft_nms)  # type: ignore[arg-type]
    few = InferenceConfig(max_detections=7, soft_nms=soft_nms)  # type: ignore[arg-type]
    full, cut = (select_detections(boxes, scores, (100, 100), config) for config in (everything, few))
    assert len(cut) == 7
    assert torch.equal(cut.scores, full.scores[:7])
    assert torch.equal(cut.scores, cut.scores.sort(descending=True).values)
    assert torch.equal(cut.proposal_indices, full.proposal_indices[:7])


def test_the_threshold_itself_is_not_enough() -> None:
    scores = torch.tensor([[0.5], [0.25], [0.75]])
    detections = select_detections(FAR_APART, scores, None, InferenceConfig(score_threshold=0.5))
    assert detections.proposal_indices.tolist() == [2]


def test_each_class_may_have_its_own_boxes() -> None:
    per_class = torch.stack((FAR_APART, FAR_APART + 100), dim=1)
    detections = select_detections(per_class, torch.tensor([[0.9, 0.8], [0, 0], [0, 0]]), None, InferenceConfig())
    assert detections.boxes.tolist() == [FAR_APART[0].tolist(), (FAR_APART[0] + 100).tolist()]


def test_no_proposals_give_no_detections() -> None:
    for soft_nms in (None, "gaussian"):
        config = InferenceConfig(soft_nms=soft_nms)  # type: ignore[arg-type]
        detections = select_detections(torch.empty(0, 4), torch.empty(0, 5), (10, 10), config)
        assert len(detections) == 0
        assert detections.boxes.shape == (0, 4)


def crowd(count: int) -> Tensor:
    corners = 60 * torch.rand(count, 2)
    return torch.cat((corners, corners + 10 + 20 * torch.rand(count, 2)), dim=1)
