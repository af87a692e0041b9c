"""The open-vocabulary detector: a region encoder, a head and an exchangeable table of class embeddings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regionclip.boxes import box_iou, check_boxes, decode_deltas
from regionclip.clip_models import create_clip
from regionclip.detection_losses import box_regression_loss, focal_scaled_cross_entropy, weighted_cross_entropy
from regionclip.detections import Detections, InferenceConfig, class_scores, select_detections
from regionclip.open_vocabulary import OpenVocabularyHead
from regionclip.proposals.network import random_subset
from regionclip.proposals.proposer import Proposals
from regionclip.region_encoder import RegionEncoder

WEIGHTS = "detector.safetensors"
DESCRIPTION = "detector.json"


@dataclass(frozen=True)
class BoxTargets:
    """True boxes [n, 4] of one image and their labels [n] int64, rows of the class table; without crowds."""

    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class SampledProposals:
    """Proposals chosen for a loss: boxes [r, 4], labels [r] (K = background), and the true box of each [r, 4]."""

    boxes: Tensor
    labels: Tensor
    target_boxes: Tensor


@dataclass(frozen=True)
class DetectionLossConfig:
    """How proposals are sampled and scored in training.

    num_samples: proposals of an image, of which at most `foreground_fraction` are foreground (IoU >= foreground_iou).
    focal_gamma: exponent of the focal scaling; None takes weighted cross-entropy. background_weight: see the losses.
    """

    num_samples: int = 512
    foreground_fraction: float = 0.25
    foreground_iou: float = 0.5
    focal_gamma: float | None = 0.5
    background_weight: float = 0.2


class OpenVocabularyDetector(nn.Module):
    """Detects the classes of its table among given proposals; the table may be replaced at any time.

    classes: K names. class_embeddings [K, D]: text embeddings of the encoder's model, of any norm; not trained.
    """

    classes: tuple[str, ...]
    class_embeddings: Tensor

    def __init__(
        self, encoder: RegionEncoder, head: OpenVocabularyHead, classes: Sequence[str], class_embeddings: Tensor
    ) -> None:
        super().__init__()
        if head.width != encoder.width:
            raise ValueError(f"the head is {head.width} wide but the encoder {encoder.width}; build both for one model")
        self.encoder = encoder
        self.head = head
        self.register_buffer("class_embeddings", torch.empty(0))
        self.set_class_embeddings(classes, class_embeddings)

    def set_class_embeddings(self, classes: Sequence[str], class_embeddings: Tensor) -> None:
        """Replace the class table; ValueError for repeated names, or a row count or width that does not fit."""
        _check_table(classes, class_embeddings, self.encoder.width)
        reference = next(self.encoder.parameters())
        self.classes = tuple(classes)
        self.class_embeddings = class_embeddings.detach().to(reference.device, reference.dtype).clone()

    def losses(
        self,
        images: Tensor,
        proposals: Sequence[Proposals],
        targets: Sequence[BoxTargets],
        config: DetectionLossConfig | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Losses of normalised images [B, 3, H, W]: "loss_classification", and "loss_box" if the head regresses boxes.

        `generator` (CPU) draws the samples; the same state gives the same samples on any device.
        """
        config = config or DetectionLossConfig()
        num_classes = len(self.classes)
        sampled = [
            sample_proposals(each.boxes.to(images.device), truth, num_classes, config, generator)
            for each, truth in zip(proposals, targets, strict=True)
        ]
        boxes = torch.cat([each.boxes for each in sampled])
        labels = torch.cat([each.labels for each in sampled])
        raw_features = self.encoder(images, [each.boxes for each in sampled])  # [R, D]
        logits = self.head.logits(raw_features, self.class_embeddings)
        if config.focal_gamma is None:
            classification = weighted_cross_entropy(logits, labels, config.background_weight)
        else:
            classification = focal_scaled_cross_entropy(logits, labels, config.focal_gamma, config.background_weight)
        if self.head.box_regressor is None:
            return {"loss_classification": classification}
        target_boxes = torch.cat([each.target_boxes for each in sampled])
        deltas = self.head.box_deltas(raw_features)
        box = box_regression_loss(deltas, boxes, target_boxes, labels < num_classes)
        return {"loss_classification": classification, "loss_box": box}

    @torch.no_grad()
    def detect(
        self,
        images: Tensor,
        proposals: Sequence[Proposals],
        sizes: Sequence[tuple[int, int]],
        config: InferenceConfig | None = None,
    ) -> list[Detections]:
        """Detections, on the CPU, of each image of a normalised padded batch [B, 3, H, W].

        sizes: (height, width) of each image without padding, to which boxes are clipped.
        """
        config = config or InferenceConfig()
        boxes = [each.boxes.to(images.device) for each in proposals]
        raw_features = self.encoder(images, boxes)  # [R, D]
        all_logits = self.head.logits(raw_features, self.class_embeddings).float().cpu()
        all_boxes = torch.cat(boxes)
        if config.refine_boxes and self.head.box_regressor is not None:
            all_boxes = decode_deltas(all_boxes, self.head.box_deltas(raw_features).float())
        counts = [len(each) for each in boxes]
        rows = zip(torch.split(all_logits, counts), torch.split(all_boxes.cpu(), counts), proposals, sizes, strict=True)
        return [
            select_detections(image_boxes, class_scores(logits, image_proposals.objectness.cpu(), config), size, config)
            for logits, image_boxes, image_proposals, size in rows
        ]


def sample_proposals(
    boxes: Tensor,
    targets: BoxTargets,
    num_classes: int,
    config: DetectionLossConfig,
    generator: torch.Generator | None = None,
) -> SampledProposals:
    """Draw foreground and background among the proposals [n, 4] of one image and its true boxes, which join them."""
    true_boxes, true_labels = targets.boxes.to(boxes), targets.labels.to(boxes.device)
    check_boxes(true_boxes, "true boxes")
    if len(true_labels) and not 0 <= int(true_labels.min()) <= int(true_labels.max()) < num_classes:
        raise ValueError(
            f"labels reach from {int(true_labels.min())} to {int(true_labels.max())}, but the class table has "
            f"{num_classes} rows; number the labels by the table"
        )
    candidates = torch.cat((boxes, true_boxes))
    labels = torch.full((len(candidates),), num_classes, dtype=torch.int64, device=boxes.device)
    target_boxes = candidates
    if len(true_boxes):
        overlaps, matches = box_iou(candidates, true_boxes).max(dim=1)
        labels = torch.where(overlaps >= config.foreground_iou, true_labels[matches], labels)
        target_boxes = true_boxes[matches]
    foreground = random_subset(labels < num_classes, int(config.num_samples * config.foreground_fraction), generator)
    background = random_subset(labels == num_classes, config.num_samples - len(foreground), generator)
    chosen = torch.cat((foreground, background))
    return SampledProposals(candidates[chosen], labels[chosen], target_boxes[chosen])


def _check_table(classes: Sequence[str], class_embeddings: Tensor, width: int) -> None:
    if class_embeddings.ndim != 2 or class_embeddings.shape[1] != width:
        raise ValueError(
            f"class embeddings have shape {tuple(class_embeddings.shape)}, but the encoder's features are {width} "
            "wide; embed the classes with the text encoder of this model"
        )
    if len(classes) != len(class_embeddings):
        raise ValueError(f"{len(classes)} class names but {len(class_embeddings)} embeddings; give one row a name")
    if len(set(classes)) != len(classes):
        repeated = next(name for name in classes if classes.count(name) > 1)
        raise ValueError(
            f"{len(classes)} class names but only {len(set(classes))} different ones: '{repeated}' is repeated"
        )


def save_detector(detector: OpenVocabularyDetector, model: str, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write detector.safetensors (as `dtype`, if given) and detector.json into `folder`; model: the CLIP's name."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu() for name, tensor in detector.state_dict().items()}
    if dtype is not None:
        tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    description = {
        "model": model,
        "classes": list(detector.classes),
        "temperature": detector.head.temperature,
        "num_box_outputs": detector.head.num_box_outputs,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n")


def load_detector(folder: Path) -> OpenVocabularyDetector:
    """The detector of `save_detector`, in float32 and eval mode, with the class table it was saved with."""
    description = json.loads((folder / DESCRIPTION).read_text())
    encoder = RegionEncoder(create_clip(description["model"]).visual)
    head = OpenVocabularyHead(encoder.width, description["temperature"], description["num_box_outputs"])
    classes = description["classes"]
    detector = OpenVocabularyDetector(encoder, head, classes, torch.zeros(len(classes), encoder.width))
    detector.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    return detector.eval()
