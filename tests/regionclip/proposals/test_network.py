from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18, resnet50

from regionclip.boxes import box_iou, nonempty
from regionclip.proposals.backbone import ResidualBackbone
from regionclip.proposals.network import (
    ProposalConfig,
    ProposalNetwork,
    ProposerConfig,
    load_proposer,
    save_proposer,
)

SMALL = ProposerConfig(
    blocks=(1, 1), width=8, levels=(4, 8), fpn_channels=16, anchor_sizes=((12,), (24,)), aspect_ratios=(1.0,)
)


def scenes(count: int, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """Bright squares of 12 to 24 pixels on dark images [count, 3, 48, 48]."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.1 * torch.randn(count, 3, 48, 48, generator=generator)
    boxes = []
    for image in images:
        side = int(torch.randint(12, 25, (1,), generator=generator))
        x, y = torch.randint(0, 48 - side, (2,), generator=generator).tolist()
        image[:, y : y + side, x : x + side] += 2
        boxes.append(torch.tensor([[x, y, x + side, y + side]], dtype=torch.float32))
    return images, boxes


@pytest.fixture(scope="module")
def proposer() -> ProposalNetwork:
    torch.manual_seed(0)
    return ProposalNetwork(SMALL).eval()


def test_training_finds_the_objects() -> None:
    torch.manual_seed(0)
    proposer = ProposalNetwork(SMALL).train()
    optimizer = torch.optim.Adam(proposer.parameters(), lr=1e-2)
    for step in range(25):
        images, boxes = scenes(8, seed=step)
        loss = torch.stack(list(proposer.losses(images, boxes).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    images, boxes = scenes(32, seed=1000)
    found = proposer.eval().propose(images, [(48, 48)] * 32, ProposalConfig(post_nms=10))
    hits = [box_iou(true, each.boxes).max() >= 0.5 for true, each in zip(boxes, found, strict=True)]
    assert sum(map(int, hits)) >= 27


def test_losses_are_seeded_and_reach_every_parameter(proposer: ProposalNetwork) -> None:
    images, boxes = scenes(2)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    first, same, other = (proposer.losses(images, boxes, generator) for generator in generators)
    assert set(first) == {"loss_objectness", "loss_rpn_box"}
    assert torch.equal(first["loss_objectness"], same["loss_objectness"])
    assert not torch.equal(first["loss_objectness"], other["loss_objectness"])
    gradients = torch.autograd.grad(torch.stack(list(first.values())).sum(), list(proposer.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_an_image_without_boxes_only_teaches_what_is_no_object(proposer: ProposalNetwork) -> None:
    losses = proposer.losses(scenes(1)[0], [torch.empty(0, 4)])
    assert losses["loss_rpn_box"] == 0
    assert losses["loss_objectness"] > 0


def test_a_degenerate_true_box_is_refused(proposer: ProposalNetwork) -> None:
    with pytest.raises(ValueError, match="true boxes"):
        proposer.losses(scenes(1)[0], [torch.tensor([[5.0, 5.0, 5.0, 9.0]])])


def test_proposals_are_sorted_clipped_and_apart(proposer: ProposalNetwork) -> None:
    config = ProposalConfig(pre_nms=50, nms_iou=0.5, post_nms=20, min_size=3)
    for proposals in proposer.propose(scenes(2)[0], [(48, 40), (30, 48)], config):
        assert 0 < len(proposals) <= 20
        assert torch.equal(proposals.objectness, proposals.objectness.sort(descending=True).values)
        assert nonempty(proposals.boxes, 3).all()
    first, second = proposer.propose(scenes(2)[0], [(48, 40), (30, 48)], config)
    assert first.boxes[:, 2].max() <= 40
    assert second.boxes[:, 3].max() <= 30


def test_nms_keeps_boxes_of_one_level_apart() -> None:
    torch.manual_seed(0)
    config = ProposerConfig(blocks=(1, 1), width=8, levels=(8,), fpn_channels=None, anchor_sizes=((12, 24),))
    (proposals,) = ProposalNetwork(config).eval().propose(scenes(1)[0], [(48, 48)], ProposalConfig(nms_iou=0.4))
    assert box_iou(proposals.boxes, proposals.boxes).fill_diagonal_(0).max() <= 0.4


def test_a_batch_gives_the_proposals_of_each_image(proposer: ProposalNetwork) -> None:
    images, _ = scenes(3)
    together = proposer.propose(images, [(48, 48)] * 3)
    for image, expected in zip(images, together, strict=True):
        (alone,) = proposer.propose(image[None], [(48, 48)])
        torch.testing.assert_close(alone.objectness[:10], expected.objectness[:10], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.boxes[:10], expected.boxes[:10], atol=1e-2, rtol=0)


def test_sides_that_no_stride_divides_are_padded_with_zeros(proposer: ProposalNetwork) -> None:
    images, _ = scenes(1)
    odd = images[:, :, :45, :43]
    padded = torch.nn.functional.pad(odd, (0, 5, 0, 3))
    (from_odd,), (from_padded,) = (proposer.propose(each, [(45, 43)]) for each in (odd, padded))
    assert torch.equal(from_odd.boxes, from_padded.boxes)
    assert torch.equal(from_odd.objectness, from_padded.objectness)


def test_anchors_lie_on_the_cells_of_their_map(proposer: ProposalNetwork) -> None:
    """An image shifted by one coarse cell gives the boxes shifted by as much, away from the border."""
    torch.manual_seed(0)
    images = torch.zeros(2, 3, 160, 160)
    blob = torch.randn(3, 16, 16)
    images[0, :, 72:88, 72:88] = blob
    images[1, :, 80:96, 72:88] = blob
    levels = proposer._levels(images)
    for level, stride in zip(levels, (4, 8), strict=True):
        maps = level.objectness.unflatten(1, (160 // stride, -1))
        shift = 8 // stride
        middle = slice(48 // stride, 112 // stride)
        torch.testing.assert_close(
            maps[0, middle, middle], maps[1].roll(-shift, dims=0)[middle, middle], atol=1e-4, rtol=0
        )


def test_a_saved_proposer_proposes_the_same(proposer: ProposalNetwork, tmp_path: Path) -> None:
    save_proposer(proposer, tmp_path)
    loaded = load_proposer(tmp_path)
    assert loaded.config == SMALL
    images, _ = scenes(1)
    (expected,), (actual,) = (each.propose(images, [(48, 48)]) for each in (proposer, loaded))
    assert torch.equal(actual.boxes, expected.boxes)
    assert torch.equal(actual.objectness, expected.objectness)


def test_the_default_proposer_fits_in_a_megabyte_of_half_precision(tmp_path: Path) -> None:
    save_proposer(ProposalNetwork(), tmp_path, dtype=torch.float16)
    assert (tmp_path / "proposer.safetensors").stat().st_size < 2**20
    assert load_proposer(tmp_path).backbone.conv1.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("block", "blocks", "reference"), [("basic", (2, 2, 2, 2), resnet18), ("bottleneck", (3, 4, 6, 3), resnet50)]
)
def test_the_backbone_takes_torchvision_weights(block: str, blocks: tuple[int, ...], reference: object) -> None:
    with torch.device("meta"):
        backbone = ResidualBackbone(block, blocks, 64, (32,))  # type: ignore[arg-type]
        expected = {name: value.shape for name, value in reference().state_dict().items()}  # type: ignore[operator]
    actual = {name: value.shape for name, value in backbone.state_dict().items()}
    assert actual == {name: shape for name, shape in expected.items() if not name.startswith("fc.")}


@pytest.mark.parametrize(
    "change",
    [
        {"levels": (4, 64)},
        {"levels": ()},
        {"fpn_channels": None},
        {"anchor_sizes": ((16,),)},
        {"anchor_sizes": ((16,), (28, 30), (48,))},
    ],
)
def test_layouts_that_cannot_be_built_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"levels|anchor_sizes"):
        ProposerConfig(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("fpn_channels", [None, 8])
def test_anchors_stand_a_stride_apart_on_maps_of_any_size(fpn_channels: int | None) -> None:
    sizes = ((12,),) if fpn_channels is None else ((12,), (24,))  # the second is the pooled level
    config = ProposerConfig(
        blocks=(1, 1), width=8, levels=(8,), fpn_channels=fpn_channels, anchor_sizes=sizes, aspect_ratios=(1.0,)
    )
    levels = ProposalNetwork(config).eval()._levels(torch.zeros(1, 3, 45, 51))
    for level, stride in zip(levels, (8, 16), strict=False):
        centres = (level.anchors[:, :2] + level.anchors[:, 2:]) / 2
        for axis, side in ((0, 51), (1, 45)):
            assert centres[:, axis].unique().tolist() == list(range(0, -(-side // 8) * 8, stride))


def test_anchors_that_are_not_rounded_have_their_area_and_ratio() -> None:
    config = ProposerConfig(
        blocks=(1,), width=8, levels=(4,), fpn_channels=None, anchor_sizes=((12, 25),), round_anchors=False
    )
    (anchors,) = ProposalNetwork(config).rpn.anchor_generator.cell_anchors
    sides = anchors[:, 2:] - anchors[:, :2]
    torch.testing.assert_close(sides.prod(dim=1), torch.tensor([144.0, 625.0] * 3))
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5, 1.0, 2.0]).repeat_interleave(2))
