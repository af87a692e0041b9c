"""A region proposal network on a small ResNet, and the proposals it makes of images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, nms
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from regionclip.boxes import UNIT_WEIGHTS, check_boxes, clip_boxes, decode_deltas, encode_deltas, nonempty
from regionclip.precision import full_precision
from regionclip.proposals.backbone import BlockName, ResidualBackbone
from regionclip.proposals.proposer import Images, Proposals, Reject

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NUM_SAMPLES = 256
"""Anchors of an image that a loss looks at, at most half of them on objects."""

SMOOTH_L1_BETA = 1 / 9

WEIGHTS = "proposer.safetensors"
DESCRIPTION = "proposer.json"


@dataclass(frozen=True)
class ProposalConfig:
    """Which of the scored anchors become proposals.

    pre_nms: best anchors kept of each level. nms_iou: overlap that suppresses within a level.
    post_nms: proposals of an image. min_size: least width and height in pixels; empty boxes are always dropped.
    """

    pre_nms: int = 1000
    nms_iou: float = 0.7
    post_nms: int = 1000
    min_size: float = 0.0


@dataclass(frozen=True)
class ProposerConfig:
    """The layout of a proposer; the default is made for objects of 16 to 64 pixels in images of about 100.

    block, blocks, width: a ResNet of that many blocks a stage, `width` channels in the first and twice as many in
    each next; "basic", (2, 2, 2, 2), 64 is ResNet-18 and "bottleneck", (3, 4, 6, 3), 64 is ResNet-50.
    levels: the strides whose features are used. fpn_channels: width of the feature pyramid over them; None takes
    the one level as it is. anchor_sizes: sides in pixels, one tuple a level, of equal lengths; one tuple more adds a
    pooled level to the pyramid. aspect_ratios: height / width. round_anchors: to whole corners around their cell.
    stride_in_1x1: a bottleneck's stride is in its first convolution (MSRA) and not in its second (torchvision).
    fpn_norm: BatchNorm in the pyramid. head_convs: 3x3 convolutions before the outputs.
    """

    block: BlockName = "basic"
    blocks: tuple[int, ...] = (1, 1, 1)
    width: int = 32
    levels: tuple[int, ...] = (4, 8, 16)
    fpn_channels: int | None = 48
    anchor_sizes: tuple[tuple[int, ...], ...] = ((16,), (28,), (48,))
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    round_anchors: bool = True
    stride_in_1x1: bool = False
    fpn_norm: bool = False
    head_convs: int = 1

    def __post_init__(self) -> None:
        strides = [4 * 2**stage for stage in range(len(self.blocks))]
        if not self.levels or not set(self.levels) <= set(strides):
            raise ValueError(f"levels are {self.levels}; choose among the strides {strides} of the backbone")
        if self.fpn_channels is None and len(self.levels) != 1:
            raise ValueError(f"{len(self.levels)} levels without a pyramid; set fpn_channels or give one level")
        allowed = (len(self.levels), len(self.levels) + (self.fpn_channels is not None))
        if len(self.anchor_sizes) not in allowed or len({len(sizes) for sizes in self.anchor_sizes}) > 1:
            raise ValueError(f"anchor_sizes are {self.anchor_sizes}; give {len(self.levels)} tuples of equal length")


@dataclass(frozen=True)
class _Level:
    anchors: Tensor  # [N, 4]
    objectness: Tensor  # [B, N]
    deltas: Tensor  # [B, N, 4]


class ProposalNetwork(nn.Module):
    """A region proposal network (arXiv 1506.01497) that finds objects of any class.

    Images are [B, 3, H, W], normalised with IMAGENET_MEAN and IMAGENET_STD, zero-padded at the right and bottom.
    """

    def __init__(self, config: ProposerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ProposerConfig()
        self.backbone = ResidualBackbone(config.block, config.blocks, config.width, config.levels, config.stride_in_1x1)
        self.strides = sorted(config.levels)
        channels = [self.backbone.channels[stride] for stride in self.strides]
        self.fpn: FeaturePyramidNetwork | None = None
        if config.fpn_channels is not None:
            pooled = len(config.anchor_sizes) > len(config.levels)
            norm = nn.BatchNorm2d if config.fpn_norm else None
            extra = LastLevelMaxPool() if pooled else None
            self.fpn = FeaturePyramidNetwork(channels, config.fpn_channels, extra, norm)
            self.strides += [2 * self.strides[-1]] * pooled
        ratios = (config.aspect_ratios,) * len(config.anchor_sizes)
        anchors = (AnchorGenerator if config.round_anchors else _ExactAnchors)(config.anchor_sizes, ratios)
        self.rpn = RegionProposalNetwork(
            anchors,
            RPNHead(config.fpn_channels or channels[0], max(anchors.num_anchors_per_location()), config.head_convs),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=NUM_SAMPLES,
            positive_fraction=0.5,
            pre_nms_top_n={},
            post_nms_top_n={},
            nms_thresh=0.7,
        )

    def losses(
        self, images: Tensor, boxes: Sequence[Tensor], generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Losses "loss_objectness" and "loss_rpn_box" for the true boxes [n_i, 4] of each image (n_i may be 0).

        `generator` (CPU) draws the anchors that count; the same state gives the same anchors on any device.
        """
        for image_boxes in boxes:
            check_boxes(image_boxes, "true boxes")
        levels = self._levels(images)
        objectness = torch.cat([level.objectness for level in levels], dim=1)  # [B, N], N = anchors of an image
        deltas = torch.cat([level.deltas for level in levels], dim=1)  # [B, N, 4]
        anchors = torch.cat([level.anchors for level in levels])  # [N, 4]
        truth = [{"boxes": image_boxes.to(anchors)} for image_boxes in boxes]
        labels, matched = self.rpn.assign_targets_to_anchors([anchors] * len(images), truth)
        objectness_losses, box_losses = [], []
        for image, (label, targets) in enumerate(zip(labels, matched, strict=True)):
            positive = random_subset(label == 1, NUM_SAMPLES // 2, generator)
            negative = random_subset(label == 0, NUM_SAMPLES - len(positive), generator)
            chosen = torch.cat((positive, negative))
            objectness_losses.append(
                functional.binary_cross_entropy_with_logits(objectness[image, chosen], label[chosen], reduction="sum")
            )
            encoded = encode_deltas(anchors[positive], targets[positive], UNIT_WEIGHTS)
            box_losses.append(
                functional.smooth_l1_loss(deltas[image, positive], encoded, beta=SMOOTH_L1_BETA, reduction="sum")
            )
        count = NUM_SAMPLES * len(images)
        return {
            "loss_objectness": torch.stack(objectness_losses).sum() / count,
            "loss_rpn_box": torch.stack(box_losses).sum() / count,
        }

    @full_precision()
    @torch.no_grad()
    def propose(
        self, images: Tensor, sizes: Sequence[tuple[int, int]], config: ProposalConfig | None = None
    ) -> list[Proposals]:
        """Proposals of each image, on the CPU, best objectness first; sizes: (height, width) without padding."""
        assert not self.training, "proposals come from eval mode"
        config = config or ProposalConfig()
        levels = self._levels(images)
        return [self._select(levels, image, size, config) for image, size in enumerate(sizes)]

    def _select(self, levels: Sequence[_Level], image: int, size: tuple[int, int], config: ProposalConfig) -> Proposals:
        kept_boxes, kept_objectness = [], []
        for level in levels:
            objectness, best = level.objectness[image].topk(min(config.pre_nms, len(level.anchors)))
            boxes = decode_deltas(level.anchors[best], level.deltas[image, best], UNIT_WEIGHTS)
            boxes = clip_boxes(boxes, *size)
            valid = nonempty(boxes, config.min_size)
            boxes, objectness = boxes[valid], objectness[valid]
            keep = nms(boxes, objectness, config.nms_iou)
            kept_boxes.append(boxes[keep])
            kept_objectness.append(objectness[keep])
        all_boxes, all_objectness = torch.cat(kept_boxes), torch.cat(kept_objectness)
        order = all_objectness.argsort(descending=True, stable=True)[: config.post_nms]
        return Proposals(all_boxes[order].cpu(), all_objectness[order].cpu())

    def _levels(self, images: Tensor) -> list[_Level]:
        maps = self.backbone(images if self.fpn is None else self._pad(images))
        features = list((maps if self.fpn is None else self.fpn(maps)).values())
        objectness, deltas = self.rpn.head(features)
        return [
            _Level(
                level_anchors,
                level_objectness.permute(0, 2, 3, 1).flatten(1).float(),
                level_deltas.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3).float(),
            )
            for level_anchors, level_objectness, level_deltas in zip(
                self._anchors(features), objectness, deltas, strict=True
            )
        ]

    def _pad(self, images: Tensor) -> Tensor:
        """Images with zeros at the right and bottom, so that each map is exactly twice the next coarser one."""
        step = max(self.backbone.channels)
        height, width = images.shape[-2:]
        return functional.pad(images, (0, -width % step, 0, -height % step))

    def _anchors(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Anchors [N, 4] of each map, row by row, centred on the cells' corners."""
        generator = self.rpn.anchor_generator
        generator.set_cell_anchors(torch.float32, features[0].device)
        strides = [[torch.tensor(stride, device=features[0].device)] * 2 for stride in self.strides]
        return list(generator.grid_anchors([each.shape[-2:] for each in features], strides))


class NetworkProposer:
    """The proposals of a network, which sees the images as they were resized; `device` is the network's own."""

    reads_pixels = True

    def __init__(self, network: ProposalNetwork, config: ProposalConfig, device: str) -> None:
        self._network, self._config, self._device = network, config, device

    def propose(self, images: Images, reject: Reject) -> list[Proposals]:
        """See `Proposer.propose`."""
        assert images.batch is not None, "a network needs pixels"
        pixels = images.batch.normalized(IMAGENET_MEAN, IMAGENET_STD, self._device)
        with torch.inference_mode():
            found = self._network.propose(pixels, [images.batch.size] * len(pixels), self._config)
        return [
            Proposals(clip_boxes(each.boxes / images.batch.scale, record.height, record.width), each.objectness)
            for record, each in zip(images.records, found, strict=True)
        ]


class _ExactAnchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors whose corners are not rounded to whole pixels."""

    def generate_anchors(
        self,
        scales: Sequence[int],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Tensor:
        roots = torch.tensor(aspect_ratios, dtype=torch.float64, device="cpu").sqrt()[:, None]
        sizes = torch.tensor(scales, dtype=torch.float64, device="cpu")[None]
        widths, heights = (sizes / roots).flatten(), (sizes * roots).flatten()
        return (torch.stack((-widths, -heights, widths, heights), dim=1) / 2).to(device, dtype)


def save_proposer(proposer: ProposalNetwork, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write proposer.safetensors (floating-point tensors as `dtype`, if given) and proposer.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in proposer.state_dict().items()}
    if dtype is not None:
        tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    save_file(tensors, folder / WEIGHTS)
    (folder / DESCRIPTION).write_text(json.dumps({"config": asdict(proposer.config)}, indent=2) + "\n")


def load_proposer(folder: Path) -> ProposalNetwork:
    """The proposer of `save_proposer`, in float32 and eval mode."""
    values = json.loads((folder / DESCRIPTION).read_text())["config"]
    values["anchor_sizes"] = tuple(tuple(sizes) for sizes in values["anchor_sizes"])
    lists = {name: tuple(values[name]) for name in ("blocks", "levels", "aspect_ratios")}
    proposer = ProposalNetwork(ProposerConfig(**{**values, **lists}))
    proposer.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    return proposer.eval()


def random_subset(mask: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Indices of at most `count` true elements of a mask [n], drawn without replacement by a CPU generator."""
    indices = torch.nonzero(mask).squeeze(1)
    order = torch.randperm(len(indices), generator=generator)[:count]
    return indices[order.to(indices.device)]
