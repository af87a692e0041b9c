import copy
import json
from pathlib import Path

import pytest
import torch
from open_clip import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor

from regionclip.boxes import box_iou, decode_deltas
from regionclip.detection_losses import box_regression_loss, focal_scaled_cross_entropy, weighted_cross_entropy
from regionclip.detections import InferenceConfig
from regionclip.detector import (
    BoxTargets,
    DetectionLossConfig,
    OpenVocabularyDetector,
    load_detector,
    sample_proposals,
    save_detector,
)
from regionclip.open_vocabulary import OpenVocabularyHead
from regionclip.proposals.proposer import Proposals
from regionclip.region_encoder import RegionEncoder

WIDTH = 32
CLASSES = ("cat", "dog", "cup")
EVERYTHING = InferenceConfig(score_threshold=0.0, nms_iou=1.0, max_detections=10**6)
TRUTH = BoxTargets(torch.tensor([[4.0, 4.0, 40.0, 40.0], [30.0, 30.0, 60.0, 60.0]]), torch.tensor([2, 0]))


@pytest.fixture
def detector(tiny_clip: CLIP) -> OpenVocabularyDetector:
    torch.manual_seed(0)
    encoder = RegionEncoder(copy.deepcopy(tiny_clip.visual))
    head = OpenVocabularyHead(WIDTH, temperature=0.1)
    return OpenVocabularyDetector(encoder, head, CLASSES, torch.randn(len(CLASSES), WIDTH)).eval()


def proposals(count: int, seed: int = 0, size: float = 60.0) -> Proposals:
    generator = torch.Generator().manual_seed(seed)
    corners = size / 2 * torch.rand(count, 2, generator=generator)
    sides = 8 + (size / 2 - 8) * torch.rand(count, 2, generator=generator)
    return Proposals(torch.cat((corners, corners + sides), dim=1), torch.randn(count, generator=generator))


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_a_batch_gives_the_detections_of_each_image(detector: OpenVocabularyDetector) -> None:
    batch, boxes, sizes = images(3), [proposals(5), proposals(0), proposals(7, seed=1)], [(64, 64), (64, 64), (40, 50)]
    together = detector.detect(batch, boxes, sizes, EVERYTHING)
    for index, detections in enumerate(together):
        (alone,) = detector.detect(batch[[index]], [boxes[index]], [sizes[index]], EVERYTHING)
        torch.testing.assert_close(detections.boxes, alone.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(detections.scores, alone.scores, atol=1e-5, rtol=0)
        assert torch.equal(detections.proposal_indices, alone.proposal_indices)
    assert [len(each) for each in together] == [15, 0, 21]


def test_boxes_stay_within_the_unpadded_image(detector: OpenVocabularyDetector) -> None:
    (detections,) = detector.detect(images(1), [proposals(30)], [(33, 45)], EVERYTHING)
    assert detections.boxes[:, 0::2].max() == 45
    assert detections.boxes[:, 1::2].max() == 33
    assert detections.boxes.min() >= 0


def test_detections_follow_from_features_of_their_proposals(detector: OpenVocabularyDetector) -> None:
    batch, given = images(1), proposals(6)
    with torch.no_grad():
        raw_features = detector.encoder(batch, [given.boxes])
        probabilities = detector.head.logits(raw_features, detector.class_embeddings).softmax(dim=1)
        refined = decode_deltas(given.boxes, detector.head.box_deltas(raw_features))
    (detections,) = detector.detect(batch, [given], [(1000, 1000)], EVERYTHING)
    torch.testing.assert_close(detections.boxes, refined.clamp(min=0)[detections.proposal_indices])
    torch.testing.assert_close(detections.scores, probabilities[detections.proposal_indices, detections.labels])


def test_refinement_can_be_left_out(detector: OpenVocabularyDetector) -> None:
    given = proposals(6)
    config = InferenceConfig(score_threshold=0.0, nms_iou=1.0, refine_boxes=False)
    (detections,) = detector.detect(images(1), [given], [(64, 64)], config)
    assert torch.equal(detections.boxes, given.boxes[detections.proposal_indices])


def test_the_class_table_can_be_replaced_by_one_of_another_size(detector: OpenVocabularyDetector) -> None:
    table = detector.class_embeddings
    detector.set_class_embeddings(("tree", *CLASSES), torch.cat((table[:1], table)))
    assert detector.classes == ("tree", *CLASSES)
    (detections,) = detector.detect(images(1), [proposals(4)], [(64, 64)], EVERYTHING)
    by_label = [set(detections.scores[detections.labels == label].tolist()) for label in range(4)]
    assert by_label[0] == by_label[1]
    assert by_label[1] != by_label[2]


@pytest.mark.parametrize(
    ("classes", "shape", "numbers"),
    [
        (("cat", "dog"), (2, 31), r"31.*32"),
        (("cat", "dog"), (3, WIDTH), r"2 class names but 3"),
        (("cat", "dog", "cat"), (3, WIDTH), r"3 class names but only 2.*'cat'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    detector: OpenVocabularyDetector, classes: tuple[str, ...], shape: tuple[int, int], numbers: str
) -> None:
    with pytest.raises(ValueError, match=numbers):
        detector.set_class_embeddings(classes, torch.ones(shape))
    assert detector.classes == CLASSES


def test_losses_reach_the_encoder_and_the_box_regressor_but_not_the_table(detector: OpenVocabularyDetector) -> None:
    losses = detector.losses(images(2), [proposals(9), proposals(9, 1)], [TRUTH, TRUTH])
    assert set(losses) == {"loss_classification", "loss_box"}
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert detector.head.box_regressor is not None
    for parameter in (detector.encoder.visual.attnpool.c_proj.weight, detector.head.box_regressor.weight):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    assert not detector.class_embeddings.requires_grad


def test_losses_are_those_of_proposals_and_true_boxes_together(detector: OpenVocabularyDetector) -> None:
    batch, given = images(1), proposals(9)
    boxes = torch.cat((given.boxes, TRUTH.boxes))
    overlaps, matches = box_iou(boxes, TRUTH.boxes).max(dim=1)
    labels = torch.where(overlaps >= 0.5, TRUTH.labels[matches], 3)
    raw_features = detector.encoder(batch, [boxes])
    logits, deltas = (
        detector.head.logits(raw_features, detector.class_embeddings),
        detector.head.box_deltas(raw_features),
    )
    box = box_regression_loss(deltas, boxes, TRUTH.boxes[matches], labels < 3)
    for gamma, classification in (
        (0.5, focal_scaled_cross_entropy(logits, labels, 0.5, 0.2)),
        (None, weighted_cross_entropy(logits, labels, 0.2)),
    ):
        losses = detector.losses(batch, [given], [TRUTH], DetectionLossConfig(focal_gamma=gamma))
        torch.testing.assert_close(losses["loss_classification"], classification)
        torch.testing.assert_close(losses["loss_box"], box)


def test_images_without_proposals_and_truth_give_zero_losses(detector: OpenVocabularyDetector) -> None:
    nothing = BoxTargets(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    losses = detector.losses(images(1), [proposals(0)], [nothing])
    assert [loss.item() for loss in losses.values()] == [0, 0]
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]


def test_a_head_without_regression_has_one_loss(tiny_clip: CLIP) -> None:
    head = OpenVocabularyHead(WIDTH, num_box_outputs=None)
    detector = OpenVocabularyDetector(RegionEncoder(tiny_clip.visual), head, CLASSES, torch.randn(3, WIDTH))
    assert set(detector.losses(images(1), [proposals(4)], [TRUTH])) == {"loss_classification"}


def test_samples_keep_the_shares_and_the_true_boxes_take_part() -> None:
    given = proposals(400).boxes
    config = DetectionLossConfig(num_samples=40, foreground_fraction=0.25)
    sampled = sample_proposals(given, TRUTH, 3, config, torch.Generator().manual_seed(0))
    foreground = sampled.labels < 3
    assert len(sampled.boxes) == 40
    assert foreground.sum() == 10
    overlaps = box_iou(sampled.boxes, TRUTH.boxes)
    assert torch.equal(overlaps.max(dim=1).values >= 0.5, foreground)
    best = overlaps.argmax(dim=1)
    assert torch.equal(sampled.labels[foreground], TRUTH.labels[best[foreground]])
    assert torch.equal(sampled.target_boxes[foreground], TRUTH.boxes[best[foreground]])
    alone = sample_proposals(torch.empty(0, 4), TRUTH, 3, config)
    assert sorted(alone.labels.tolist()) == [0, 2]


def test_samples_are_drawn_without_replacement_and_repeat_with_the_generator() -> None:
    given, config = proposals(100).boxes, DetectionLossConfig(num_samples=32)
    draws = [sample_proposals(given, TRUTH, 3, config, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0].boxes, draws[1].boxes)
    assert not torch.equal(draws[0].boxes, draws[2].boxes)
    assert len(draws[0].boxes.unique(dim=0)) == 32


def test_an_image_without_truth_is_all_background() -> None:
    nothing = BoxTargets(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    sampled = sample_proposals(proposals(9).boxes, nothing, 3, DetectionLossConfig())
    assert sampled.labels.tolist() == [3] * 9


def test_labels_beyond_the_table_are_refused() -> None:
    with pytest.raises(ValueError, match=r"to 2, but the class table has 2 rows"):
        sample_proposals(proposals(3).boxes, TRUTH, 2, DetectionLossConfig())


def test_a_saved_detector_detects_the_same(detector: OpenVocabularyDetector, tmp_path: Path) -> None:
    save_detector(detector, "rgc-test-rn", tmp_path)
    assert json.loads((tmp_path / "detector.json").read_text()) == {
        "model": "rgc-test-rn",
        "classes": list(CLASSES),
        "temperature": 0.1,
        "num_box_outputs": 4,
    }
    loaded = load_detector(tmp_path)
    assert not loaded.training
    arguments = (images(1), [proposals(5)], [(64, 64)], EVERYTHING)
    (expected,), (actual,) = detector.detect(*arguments), loaded.detect(*arguments)
    assert torch.equal(actual.boxes, expected.boxes)
    assert torch.equal(actual.scores, expected.scores)


def test_a_half_precision_detector_is_half_the_size_and_loads_as_float32(
    detector: OpenVocabularyDetector, tmp_path: Path
) -> None:
    save_detector(detector, "rgc-test-rn", tmp_path / "half", dtype=torch.float16)
    save_detector(detector, "rgc-test-rn", tmp_path / "full")
    half, full = ((tmp_path / name / "detector.safetensors").stat().st_size for name in ("half", "full"))
    assert half < 0.6 * full
    assert {parameter.dtype for parameter in load_detector(tmp_path / "half").parameters()} == {torch.float32}


def test_a_missing_tensor_is_an_error(detector: OpenVocabularyDetector, tmp_path: Path) -> None:
    save_detector(detector, "rgc-test-rn", tmp_path)
    tensors = load_file(tmp_path / "detector.safetensors")
    del tensors["head.box_regressor.bias"]
    save_file(tensors, tmp_path / "detector.safetensors")
    with pytest.raises(RuntimeError, match=r"head\.box_regressor\.bias"):
        load_detector(tmp_path)
