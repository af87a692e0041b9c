"""Region proposal networks of detectron2 checkpoints: R-50-FPN, its large-scale-jitter variant, and R-50-C4.

The published localisers are whole Mask R-CNNs, of which backbone and proposal generator are taken. Their images are
BGR in 0..255 less a mean, not divided. That mean is IMAGENET_MEAN times 255, so the factor and the order of the
channels go into the first convolution, and the network takes the same images as any other.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regionclip.proposals.network import IMAGENET_MEAN, IMAGENET_STD, ProposalNetwork, ProposerConfig
from regionclip.torch_files import read_torch_file

ANCHOR_SIZES = (32, 64, 128, 256, 512)
ENDINGS = (".pkl", ".pth", ".pt")

_LOCALISER = "offline_"  # before the names of a localiser that lies in one file with a recogniser
_RECOGNISER = re.compile(r"(teacher_)?(backbone|lang_encoder)\..+|roi_heads\..+|pixel_mean|pixel_std")
_DROPPED = re.compile(
    r"roi_heads\..+|pixel_mean|pixel_std|.+\.num_batches_tracked|proposal_generator\.anchor_generator\.cell_anchors\.\d"
)
_STATISTICS = {"running_mean": 0.0, "running_var": 1.0}
_RENAMED = (
    (r"^backbone\.(conv|bn)1\.", r"backbone.stem.\g<1>1."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"^rpn\.head\.cls_logits\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"^rpn\.head\.bbox_pred\.", "proposal_generator.rpn_head.anchor_deltas."),
    (r"^(fpn\.\w+\.\d)\.0\.", r"\1."),
    (r"^(fpn\.\w+\.\d)\.1\.", r"\1.norm."),
)
_NUMBERED = (
    (r"^fpn\.inner_blocks\.(\d)\.", "backbone.fpn_lateral{}.", 2),
    (r"^fpn\.layer_blocks\.(\d)\.", "backbone.fpn_output{}.", 2),
    (r"\.layer(\d)\.", ".res{}.", 1),
    (r"^rpn\.head\.conv\.(\d)\.0\.", "proposal_generator.rpn_head.conv.conv{}.", 0),
)
_ARRAY_PARTS = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


def read_detectron2(path: Path) -> ProposalNetwork:
    """The localiser of a detectron2 checkpoint (.pth, or .pkl of arrays), in eval mode.

    Every key of the file is either used or known to be of no use. Raises ValueError naming a key that is missing,
    unknown or of another shape, anchors or pixel means other than the published ones, and a file that holds code.
    """
    checkpoint = None if path.suffix == ".pkl" else read_torch_file(path)
    try:
        return network_of(_pickled(path) if checkpoint is None else checkpoint)
    except ValueError as error:
        raise ValueError(f"proposer weights {path}: {error}") from error


def network_of(checkpoint: Any) -> ProposalNetwork:
    """The localiser of a loaded checkpoint: a state dict of tensors or arrays, bare or under 'model'."""
    state = _localiser(_tensors(checkpoint))
    _check_pixel_mean(state)
    layout = _layout(state)
    with torch.device("meta"):
        network = ProposalNetwork(layout).eval()
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    names = {name: _their_name(name, layout) for name in shapes if not _counts_batches(name)}
    unknown = sorted(name for name in state if not _DROPPED.fullmatch(name) and name not in names.values())
    if unknown:
        raise ValueError(f"{_some(unknown)} fit nowhere in an R-50-FPN or R-50-C4 proposer; give one of these layouts")
    _check_anchors(state, network)
    own = {name: torch.zeros((), dtype=torch.int64) for name in shapes if _counts_batches(name)}
    own |= {name: _value(state, theirs, shapes[name]) for name, theirs in names.items()}
    scale = 255 * torch.tensor(IMAGENET_STD)[None, :, None, None]
    own["backbone.conv1.weight"] = own["backbone.conv1.weight"].flip(1) * scale
    for name in own:
        if re.match(r"rpn\.head\.(cls_logits|bbox_pred)\.", name):
            own[name] = _our_order(own[name], layout)
    network.load_state_dict(own, strict=True, assign=True)
    return network


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_PARTS:
            raise ValueError(
                f"the pickle names {module}.{name}, which is code and is not run; where you trust the file, load it "
                "and torch.save({'model': state}, 'proposer.pth') with the tensors of its state dict"
            )
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _pickled(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _ArraysOnly(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, OSError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no readable pickle ({error}); copy or download it again") from error


def _tensors(checkpoint: Any) -> dict[str, Tensor]:
    state = checkpoint.get("model", checkpoint) if isinstance(checkpoint, Mapping) else checkpoint
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__}; give a state dict, bare or under 'model'")
    tensors = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.from_numpy(np.array(value))
        if not isinstance(name, str) or not isinstance(value, Tensor):
            if isinstance(name, str) and name.startswith("__"):
                continue
            raise ValueError(f"its entry {name!r} is a {type(value).__name__} and no tensor; give a state dict")
        tensors[name] = value.float()
    return tensors


def _localiser(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of the localiser: all of them, or those under their prefix beside a recogniser."""
    inner = {name.removeprefix(_LOCALISER): value for name, value in state.items() if name.startswith(_LOCALISER)}
    others = [name for name in state if not name.startswith(_LOCALISER)]
    if not inner:
        return dict(state)
    unknown = [name for name in others if not _RECOGNISER.fullmatch(name)]
    if unknown:
        raise ValueError(f"{_some(unknown)} belong neither to a localiser nor to a recogniser; remove them")
    return inner


def _layout(state: Mapping[str, Tensor]) -> ProposerConfig:
    bottom = "backbone.bottom_up." if any(name.startswith("backbone.bottom_up.") for name in state) else "backbone."
    head = "proposal_generator.rpn_head."
    for name in (f"{bottom}stem.conv1.weight", f"{bottom}res2.0.conv1.weight", f"{head}objectness_logits.weight"):
        if name not in state:
            raise ValueError(f"it has no '{name}'; give a detectron2 checkpoint of an R-50-FPN or R-50-C4 proposer")
    pyramid = "backbone.fpn_lateral2.weight" in state
    stages = _numbers(state, rf"{re.escape(bottom)}res(\d)\..*")
    if stages != ([2, 3, 4, 5] if pyramid else [2, 3, 4]):
        raise ValueError(
            f"its backbone has the stages {stages}; give an R-50-FPN (2 to 5) or R-50-C4 (2 to 4) proposer"
        )
    strides = tuple(2**stage for stage in stages)
    return ProposerConfig(
        block="bottleneck" if f"{bottom}res2.0.conv3.weight" in state else "basic",
        blocks=tuple(len(_numbers(state, rf"{re.escape(bottom)}res{stage}\.(\d+)\..*")) for stage in stages),
        width=len(state[f"{bottom}res2.0.conv1.weight"]),
        levels=strides if pyramid else strides[-1:],
        fpn_channels=len(state["backbone.fpn_lateral2.weight"]) if pyramid else None,
        anchor_sizes=tuple((size,) for size in ANCHOR_SIZES) if pyramid else (ANCHOR_SIZES,),
        round_anchors=False,
        stride_in_1x1=True,
        fpn_norm="backbone.fpn_lateral2.norm.weight" in state,
        head_convs=len(_numbers(state, rf"{re.escape(head)}conv\.conv(\d)\..*")) or 1,
    )


def _their_name(name: str, config: ProposerConfig) -> str:
    """The name that detectron2 gives to what we call `name`."""
    for pattern, renamed in _RENAMED:
        name = re.sub(pattern, renamed, name)
    for pattern, renamed, first in _NUMBERED:
        if found := re.search(pattern, name):
            name = name[: found.start()] + renamed.format(int(found[1]) + first) + name[found.end() :]
    if config.head_convs == 1:
        name = name.replace("rpn_head.conv.conv0.", "rpn_head.conv.")
    pyramid = config.fpn_channels is not None
    return re.sub(r"^backbone\.(?=stem|res)", "backbone.bottom_up.", name) if pyramid else name


def _value(state: Mapping[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    """The entry `name`, which must have this shape; a file without any statistics (Caffe2's) means unity."""
    kind = name.rpartition(".")[2]
    if kind in _STATISTICS and not any(each.endswith(tuple(_STATISTICS)) for each in state):
        return torch.full(shape, _STATISTICS[kind])
    if name not in state:
        raise ValueError(f"'{name}' is missing; give a whole checkpoint")
    if state[name].shape != shape:
        raise ValueError(f"'{name}' is {list(state[name].shape)}, its place in the network {list(shape)}")
    return state[name]


def _our_order(values: Tensor, config: ProposerConfig) -> Tensor:
    """Rows of anchors, by size and then by ratio in detectron2, by ratio and then by size here; A or 4A of them."""
    by_size = values.reshape(len(config.anchor_sizes[0]), len(config.aspect_ratios), -1, *values.shape[1:])
    return by_size.transpose(0, 1).flatten(0, 2)


def _check_anchors(state: Mapping[str, Tensor], network: ProposalNetwork) -> None:
    for level, expected in enumerate(network.rpn.anchor_generator.cell_anchors):
        name = f"proposal_generator.anchor_generator.cell_anchors.{level}"
        if name in state and not (
            state[name].shape == expected.shape
            and torch.allclose(_our_order(state[name].flatten(), network.config), expected.flatten(), atol=1e-2)
        ):
            raise ValueError(f"'{name}' are not the anchors of sizes {ANCHOR_SIZES} and ratios .5, 1 and 2")


def _check_pixel_mean(state: Mapping[str, Tensor]) -> None:
    expected = 255 * torch.tensor(IMAGENET_MEAN).flip(0)
    mean, std = state.get("pixel_mean", expected).flatten(), state.get("pixel_std", torch.ones(3)).flatten()
    if not (torch.allclose(mean, expected, atol=1e-2) and torch.equal(std, torch.ones(3))):
        raise ValueError(
            f"its pixel_mean is {_rounded(mean)} and pixel_std {_rounded(std)}; a published proposer takes BGR in "
            f"0..255 less {_rounded(expected)}, undivided"
        )


def _counts_batches(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 3) for value in values.tolist()]


def _numbers(names: Iterable[str], pattern: str) -> list[int]:
    found = (re.fullmatch(pattern, name) for name in names)
    return sorted({int(each[1]) for each in found if each})


def _some(names: list[str]) -> str:
    return f"{len(names)} keys, such as '{names[0]}',"
