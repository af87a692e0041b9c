"""From class logits and boxes of one image to its detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from regionclip.boxes import clip_boxes
from regionclip.nms import SoftNms, per_class_nms, soft_nms


@dataclass(frozen=True)
class Detections:
    """Detections of one image, best score first.

    boxes [n, 4] xyxy pixels; scores [n]; labels [n] int64 rows of the class table; proposal_indices [n] int64 into
    the proposals that were given, so that features and boxes stay aligned.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    proposal_indices: Tensor

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class InferenceConfig:
    """How class probabilities become detections.

    score_threshold: scores must be above it. nms_iou: overlap that suppresses (hard and linear).
    soft_nms: None suppresses hard. soft_nms_sigma, soft_nms_prune: see `regionclip.nms.soft_nms`.
    max_detections: best scores kept of an image. refine_boxes: apply box deltas, if the detector has them.
    multiply_objectness: score = sqrt(p * objectness). objectness: "sigmoid" takes the probability of the proposal's
    logit, a geometric mean; "raw_logit" takes the logit itself and drops proposals with a negative one, which the
    published RegionCLIP numbers rely on (scores may exceed 1).
    """

    score_threshold: float = 0.001
    nms_iou: float = 0.5
    soft_nms: SoftNms | None = None
    soft_nms_sigma: float = 0.5
    soft_nms_prune: float = 0.001
    max_detections: int = 100
    refine_boxes: bool = True
    multiply_objectness: bool = False
    objectness: Literal["sigmoid", "raw_logit"] = "sigmoid"


def class_scores(logits: Tensor, objectness: Tensor, config: InferenceConfig) -> Tensor:
    """Scores [R, K] of logits [R, K+1] (background last) and objectness logits [R].

    A row is NaN when its proposal has no score, as a negative objectness under "raw_logit".
    """
    probabilities = logits.softmax(dim=1)[:, :-1]
    if not config.multiply_objectness:
        return probabilities
    if config.objectness == "sigmoid":
        return (probabilities * objectness.sigmoid()[:, None]).sqrt()
    if config.objectness == "raw_logit":
        factor = objectness.masked_fill(objectness < 0, float("nan"))
        return (probabilities * factor[:, None]).sqrt()
    raise ValueError(f"objectness is '{config.objectness}'; choose 'sigmoid' or 'raw_logit'")


def select_detections(
    boxes: Tensor, scores: Tensor, size: tuple[float, float] | None, config: InferenceConfig
) -> Detections:
    """Detections of one image: clip, threshold, suppress within each class, keep the best.

    boxes [R, 4], or [R, K, 4] when each class has its own; scores [R, K]; rows with a box or score that is not finite
    are dropped, and so are boxes that are empty once clipped.
    size: (height, width) that boxes are clipped to; None leaves them.
    """
    num_proposals, num_classes = scores.shape
    per_class = boxes if boxes.ndim == 3 else boxes[:, None].expand(num_proposals, num_classes, 4)
    if size is not None:
        per_class = clip_boxes(per_class, *size)
    finite = torch.isfinite(per_class).flatten(1).all(dim=1) & torch.isfinite(scores).all(dim=1)
    valid = (per_class[..., 2:] > per_class[..., :2]).all(dim=-1) & finite[:, None]  # [R, K]
    rows, labels = torch.nonzero((scores > config.score_threshold) & valid, as_tuple=True)
    candidates, candidate_scores = per_class[rows, labels], scores[rows, labels]
    if config.soft_nms is None:
        keep = per_class_nms(candidates, candidate_scores, labels, config.nms_iou)[: config.max_detections]
        kept_scores = candidate_scores[keep]
    else:
        keep, kept_scores = soft_nms(
            candidates,
            candidate_scores,
            labels,
            config.soft_nms,
            sigma=config.soft_nms_sigma,
            iou=config.nms_iou,
            prune=config.soft_nms_prune,
            limit=config.max_detections,
        )
        keep, kept_scores = keep[: config.max_detections], kept_scores[: config.max_detections]
    return Detections(candidates[keep], kept_scores, labels[keep], rows[keep])
