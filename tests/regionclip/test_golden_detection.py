"""Detection gives the numbers of the reference implementation on stored features."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from regionclip.boxes import decode_deltas
from regionclip.detection_losses import box_regression_loss, focal_scaled_cross_entropy, weighted_cross_entropy
from regionclip.detections import InferenceConfig, class_scores, select_detections
from regionclip.open_vocabulary import OpenVocabularyHead

SOFT_NMS = {"hard": None, "softgauss": "gaussian", "softlinear": "linear"}
VARIANTS = [
    (boxes, multiply, delta, suppression)
    for boxes, multiply, delta, suppression in product(
        ("agnostic", "perclass"), ("mul0", "mul1"), ("nodelta0", "nodelta1"), SOFT_NMS
    )
    if boxes == "agnostic" or (multiply, delta) == ("mul0", "nodelta0")
]
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "focal05_bg02": lambda logits, labels: focal_scaled_cross_entropy(logits, labels, 0.5, 0.2),
    "focal05_nobg": lambda logits, labels: focal_scaled_cross_entropy(logits, labels, 0.5, 1.0),
    "ce_bg08": lambda logits, labels: weighted_cross_entropy(logits, labels, 0.8),
    "ce_plain": lambda logits, labels: weighted_cross_entropy(logits, labels, 1.0),
}

Golden = dict[str, Tensor]


def read(path: Path) -> Golden:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files if arrays[name].dtype.kind != "U"}


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    return read(shared / "golden" / "e_detection.npz")


@pytest.fixture(scope="module")
def head(golden: Golden) -> OpenVocabularyHead:
    head = OpenVocabularyHead(1024, temperature=0.01)
    head.load_state_dict(
        {"box_regressor.weight": golden["W_box_agnostic"], "box_regressor.bias": golden["b_box_agnostic"]}
    )
    return head


def per_class_deltas(golden: Golden) -> Tensor:
    deltas = golden["features"] @ golden["W_box_perclass"].T + golden["b_box_perclass"]
    return deltas.unflatten(1, (-1, 4))  # [R, K, 4]


@torch.no_grad()
def test_logits_and_probabilities(golden: Golden, head: OpenVocabularyHead) -> None:
    logits = head.logits(golden["features"], golden["text_emb"])
    torch.testing.assert_close(logits, golden["logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, golden["logits_openset7_train"], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits.softmax(dim=1), golden["probs"], atol=1e-5, rtol=0)
    open_set = head.logits(golden["features"], golden["text_emb_openset7"])
    torch.testing.assert_close(open_set, golden["logits_openset7_eval"], atol=1e-4, rtol=0)


def test_scores_times_objectness(golden: Golden) -> None:
    config = InferenceConfig(multiply_objectness=True, objectness="raw_logit")
    scores = class_scores(golden["logits"], golden["rpn_logits"], config)
    torch.testing.assert_close(scores, golden["scores_x_rpn"][:, :-1], atol=1e-5, rtol=0, equal_nan=True)
    assert scores.isnan().any(dim=1).sum() == 16


@torch.no_grad()
def test_decoded_boxes(golden: Golden, head: OpenVocabularyHead) -> None:
    deltas = head.box_deltas(golden["features"])
    torch.testing.assert_close(deltas, golden["deltas_agnostic"], atol=1e-5, rtol=0)
    boxes = decode_deltas(golden["proposals"], deltas)
    torch.testing.assert_close(boxes, golden["pred_boxes_agnostic"], atol=0.01, rtol=0)
    each = decode_deltas(golden["proposals"][:, None], per_class_deltas(golden))
    torch.testing.assert_close(each.flatten(1), golden["pred_boxes_perclass"], atol=0.01, rtol=0)


def check_detections(golden: Golden, name: str, boxes: Tensor, config: InferenceConfig) -> None:
    scores = class_scores(golden["logits"], golden["rpn_logits"], config)
    height, width = golden["image_hw"].tolist()
    detections = select_detections(boxes, scores, (height, width), config)
    finite = torch.nonzero(torch.isfinite(scores).all(dim=1)).squeeze(1)
    torch.testing.assert_close(detections.boxes, golden[f"{name}_boxes"], atol=0.01, rtol=0)
    torch.testing.assert_close(detections.scores, golden[f"{name}_scores"], atol=1e-5, rtol=0)
    assert torch.equal(detections.labels, golden[f"{name}_classes"])
    assert torch.equal(detections.proposal_indices, finite[golden[f"{name}_keep"]])
    if f"{name}_vis_scores" in golden:
        probabilities = golden["logits"].softmax(dim=1)[detections.proposal_indices, detections.labels]
        torch.testing.assert_close(probabilities, golden[f"{name}_vis_scores"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("layout", "multiply", "delta", "suppression"), VARIANTS)
def test_detections(golden: Golden, layout: str, multiply: str, delta: str, suppression: str) -> None:
    boxes = golden["proposals"]
    if delta == "nodelta0":
        boxes = golden[f"pred_boxes_{layout}"]
        boxes = boxes.unflatten(1, (-1, 4)) if layout == "perclass" else boxes
    config = InferenceConfig(
        soft_nms=SOFT_NMS[suppression],  # type: ignore[arg-type]
        multiply_objectness=multiply == "mul1",
        objectness="raw_logit",
    )
    check_detections(golden, f"inf_{layout}_{multiply}_{delta}_{suppression}", boxes, config)


def test_detections_with_the_thresholds_of_lvis(golden: Golden) -> None:
    config = InferenceConfig(
        score_threshold=0.02, nms_iou=0.3, max_detections=20, multiply_objectness=True, objectness="raw_logit"
    )
    check_detections(golden, "inf_lvis_thr02_nms03_top20_mul1", golden["pred_boxes_agnostic"], config)


def test_every_stored_variant_is_compared(golden: Golden) -> None:
    stored = {name.removesuffix("_boxes") for name in golden if name.startswith("inf_") and name.endswith("_boxes")}
    assert stored == {f"inf_{'_'.join(variant)}" for variant in VARIANTS} | {"inf_lvis_thr02_nms03_top20_mul1"}


@pytest.mark.parametrize("name", LOSSES)
def test_classification_losses_and_gradients(golden: Golden, head: OpenVocabularyHead, name: str) -> None:
    features = golden["features"].clone().requires_grad_()
    loss = LOSSES[name](head.logits(features, golden["text_emb"]), golden["gt_classes"])
    torch.testing.assert_close(loss, golden[f"loss_cls_{name}"], rtol=1e-4, atol=0)
    (gradient,) = torch.autograd.grad(loss, features)
    torch.testing.assert_close(gradient[:4], golden[f"grad_feat_loss_cls_{name}_rows0_4"], rtol=1e-3, atol=1e-6)


def test_box_losses(golden: Golden) -> None:
    labels = golden["gt_classes"]
    foreground = labels < 5
    own_class = per_class_deltas(golden)[torch.arange(len(labels)), labels.clamp(max=4)]
    for name, deltas in (("agnostic", golden["deltas_agnostic"]), ("perclass", own_class)):
        loss = box_regression_loss(deltas, golden["proposals"], golden["gt_boxes"], foreground)
        torch.testing.assert_close(loss, golden[f"loss_box_reg_{name}"], rtol=1e-4, atol=0)


def test_zero_shot_detection_of_80_classes(shared: Path) -> None:
    matching = read(shared / "golden" / "c_matching_short224.npz")
    features = read(shared / "golden" / "a_visual_short224.npz")["region_feat_raw"]
    logits = OpenVocabularyHead(1024, num_box_outputs=None).logits(features, matching["concept_emb_raw_mean"])
    torch.testing.assert_close(logits, matching["s224_detector_logits_with_bg"], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits.softmax(dim=1), matching["s224_detector_prob_with_bg"], atol=1e-5, rtol=0)
    config = InferenceConfig(score_threshold=0.02)
    scores = class_scores(logits, torch.zeros(len(logits)), config)
    detections = select_detections(matching["s224_boxes_xyxy"], scores, (224, 398), config)
    torch.testing.assert_close(2 * detections.boxes, matching["s224_det_boxes_2x"], atol=0.01, rtol=0)
    torch.testing.assert_close(detections.scores, matching["s224_det_scores"], atol=1e-5, rtol=0)
    assert torch.equal(detections.labels, matching["s224_det_classes"])
