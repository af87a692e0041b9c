from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models import resnet18, resnet50

from regionclip.backbone import ResidualBackbone
from regionclip.boxes import box_iou, check_boxes, nonempty
from regionclip.proposer import (
    RESNET50_FPN,
    ProposalConfig,
    Proposer,
    ProposerConfig,
    grid_boxes,
    load_proposer,
    random_boxes,
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
def proposer() -> Proposer:
    torch.manual_seed(0)
    return Proposer(SMALL).eval()


def test_training_finds_the_objects() -> None:
    torch.manual_seed(0)
    proposer = Proposer(SMALL).train()
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


def test_losses_are_seeded_and_reach_every_parameter(proposer: Proposer) -> None:
    images, boxes = scenes(2)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    first, same, other = (proposer.losses(images, boxes, generator) for generator in generators)
    assert set(first) == {"loss_objectness", "loss_rpn_box"}
    assert torch.equal(first["loss_objectness"], same["loss_objectness"])
    assert not torch.equal(first["loss_objectness"], other["loss_objectness"])
    gradients = torch.autograd.grad(torch.stack(list(first.values())).sum(), list(proposer.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_an_image_without_boxes_only_teaches_what_is_no_object(proposer: Proposer) -> None:
    losses = proposer.losses(scenes(1)[0], [torch.empty(0, 4)])
    assert losses["loss_rpn_box"] == 0
    assert losses["loss_objectness"] > 0


def test_a_degenerate_true_box_is_refused(proposer: Proposer) -> None:
    with pytest.raises(ValueError, match="true boxes"):
        proposer.losses(scenes(1)[0], [torch.tensor([[5.0, 5.0, 5.0, 9.0]])])


def test_proposals_are_sorted_clipped_and_apart(proposer: Proposer) -> None:
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
    (proposals,) = Proposer(config).eval().propose(scenes(1)[0], [(48, 48)], ProposalConfig(nms_iou=0.4))
    assert box_iou(proposals.boxes, proposals.boxes).fill_diagonal_(0).max() <= 0.4


def test_a_batch_gives_the_proposals_of_each_image(proposer: Proposer) -> None:
    images, _ = scenes(3)
    together = proposer.propose(images, [(48, 48)] * 3)
    for image, expected in zip(images, together, strict=True):
        (alone,) = proposer.propose(image[None], [(48, 48)])
        torch.testing.assert_close(alone.objectness[:10], expected.objectness[:10], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.boxes[:10], expected.boxes[:10], atol=1e-2, rtol=0)


def test_sides_that_no_stride_divides_are_padded_with_zeros(proposer: Proposer) -> None:
    images, _ = scenes(1)
    odd = images[:, :, :45, :43]
    padded = torch.nn.functional.pad(odd, (0, 5, 0, 3))
    (from_odd,), (from_padded,) = (proposer.propose(each, [(45, 43)]) for each in (odd, padded))
    assert torch.equal(from_odd.boxes, from_padded.boxes)
    assert torch.equal(from_odd.objectness, from_padded.objectness)


def test_anchors_lie_on_the_cells_of_their_map(proposer: Proposer) -> None:
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


def test_a_saved_proposer_proposes_the_same(proposer: Proposer, tmp_path: Path) -> None:
    save_proposer(proposer, tmp_path)
    loaded = load_proposer(tmp_path)
    assert loaded.config == SMALL
    images, _ = scenes(1)
    (expected,), (actual,) = (each.propose(images, [(48, 48)]) for each in (proposer, loaded))
    assert torch.equal(actual.boxes, expected.boxes)
    assert torch.equal(actual.objectness, expected.objectness)


def test_the_default_proposer_fits_in_a_megabyte_of_half_precision(tmp_path: Path) -> None:
    save_proposer(Proposer(), tmp_path, dtype=torch.float16)
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


def test_the_published_layout_has_five_levels_of_three_anchors() -> None:
    with torch.device("meta"):
        proposer = Proposer(RESNET50_FPN)
    assert proposer.rpn.anchor_generator.num_anchors_per_location() == [3] * 5
    assert proposer.rpn.head.cls_logits.weight.shape == (3, 256, 1, 1)


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


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 200), st.integers(8, 200), st.integers(0, 50), st.integers(0, 1000))
def test_random_boxes_lie_on_the_grid_within_the_image(height: int, width: int, count: int, seed: int) -> None:
    proposals = random_boxes(height, width, count, seed)
    assert len(proposals) == count
    check_boxes(proposals.boxes, "random boxes")
    assert (proposals.boxes % 8 == 0).all()
    if count:
        assert proposals.boxes[:, 2].max() <= width
        assert proposals.boxes[:, 3].max() <= height
    assert torch.equal(proposals.boxes, random_boxes(height, width, count, seed).boxes)


def test_random_boxes_need_a_grid() -> None:
    with pytest.raises(ValueError, match="7 pixels"):
        random_boxes(64, 7, 10, seed=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 200), st.integers(20, 200), st.integers(16, 64), st.sampled_from([0.0, 0.3, 0.5]))
def test_grid_boxes_cover_the_image_and_share_the_overlap(height: int, width: int, size: int, overlap: float) -> None:
    boxes = grid_boxes(height, width, sizes=(size,), aspect_ratios=(1.0,), overlap=overlap).boxes
    check_boxes(boxes, "grid boxes")
    for axis, side in ((0, width), (1, height)):
        starts, ends = boxes[:, axis].unique(), boxes[:, axis + 2].unique()
        assert starts[0] == 0
        assert ends[-1] == pytest.approx(side)
        shared = ends[:-1] - starts[1:]
        assert (shared >= overlap * min(size, side) - 1e-3).all()
