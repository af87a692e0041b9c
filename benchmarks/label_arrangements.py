"""Ways to get features of regions, each in a process of its own, so that they can be timed in turn."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import roi_align

from regionclip.clip_models import create_clip
from regionclip.teachers.making import make_teacher
from regionclip.teachers.memory import keep_freed_memory
from regionclip.teachers.resnet import FusedResNetTeacher
from regionclip.teachers.teacher import TeacherConfig

MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}
CONFIGS = {
    "default": TeacherConfig(),
    "fused": TeacherConfig(fused=True),
    "fused, compiled": TeacherConfig(fused=True, compile=True),
}


def seeded_clip(model: str) -> Any:
    """A model of random weights whose BatchNorm is no identity."""
    torch.manual_seed(0)
    clip = create_clip(model)
    norms: list[Any] = [module for module in clip.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.normal_(0.0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
    return clip


def seeded_batch(number: int, num_images: int, num_boxes: int, size: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    """Normalised images [B, 3, H, W] and boxes of log-uniform scale (32 to 512 pixels) inside them."""
    height, width = size
    random = torch.Generator().manual_seed(number)
    images = torch.randn(num_images, 3, height, width, generator=random)
    scale = 32 * 16 ** torch.rand(num_images, num_boxes, generator=random)
    shape = 4 ** (torch.rand(num_images, num_boxes, generator=random) - 0.5)
    sides = torch.stack([(scale * shape).clamp(max=width), (scale / shape).clamp(max=height)], dim=-1)
    corner = torch.rand(num_images, num_boxes, 2, generator=random) * (torch.tensor([width, height]) - sides)
    return images, list(torch.cat([corner, corner + sides], dim=-1))


class Plain:
    """Image by image, fp32, default layout, nothing fused; the attention pool projects every token."""

    def __init__(self, model: str) -> None:
        self._visual = seeded_clip(model).visual.eval()
        self._size = 2 * int((self._visual.attnpool.positional_embedding.shape[0] - 1) ** 0.5)
        self.last_stage, self.pool = self._visual.layer4, self._visual.attnpool

    def feature_map(self, images: Tensor) -> Tensor:
        visual = self._visual
        features: Tensor = visual.layer3(visual.layer2(visual.layer1(visual.stem(images))))
        return features

    @torch.inference_mode()
    def region_features(self, images: Tensor, boxes: list[Tensor]) -> Tensor:
        raw = []
        for image, each in zip(torch.split(images, 1), boxes, strict=True):
            aligned = roi_align(self.feature_map(image), [each], self._size, 1 / 16, -1, True)
            raw.append(self.pool(self.last_stage(aligned)))
        return functional.normalize(torch.cat(raw), dim=-1)


def matmul_rate(device: str, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of one large matrix product."""
    side = MATMUL_SIDE[device]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def multiply(left: Tensor, right: Tensor) -> None:
        torch.matmul(left, right)
        if device == "cuda":
            torch.cuda.synchronize()

    multiply(left, right)
    seconds = min(_seconds(lambda: multiply(left, right)) for _ in range(5))
    return 2 * side**3 / seconds


class Arrangement:
    """A child process with one way to encode regions; it idles until asked."""

    def __init__(self, name: str, model: str, num_threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, model, num_threads), daemon=True)
        self._process.start()

    def run(self, *batch: Any) -> dict[str, Any]:
        """Encode `seeded_batch(*batch)`: 'features', 'seconds' in all and by part, 'flops' by part, 'memory_gb'."""
        self._connection.send(batch)
        answer: dict[str, Any] = self._connection.recv()
        return answer

    def close(self) -> None:
        """End the process."""
        self._connection.send(None)
        self._process.join()


def _serve(connection: Connection, name: str, model: str, num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    encoder: Any
    if name == "plain":
        encoder = Plain(model)
    else:
        keep_freed_memory()
        encoder = make_teacher(seeded_clip(model), CONFIGS[name])
    parts: dict[str, float] = {}
    if isinstance(encoder, Plain | FusedResNetTeacher):
        for part in ("feature_map", "last_stage", "pool"):
            setattr(encoder, part, _timed(getattr(encoder, part), part, parts))
    while (batch := connection.recv()) is not None:
        images, boxes = seeded_batch(*batch)
        parts.clear()
        started = time.perf_counter()
        features = encoder.region_features(images, boxes)
        seconds = {"all": time.perf_counter() - started, **parts}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        connection.send({"features": features.numpy(), "seconds": seconds, "memory_gb": memory})


def _timed(function: Callable[..., Any], part: str, parts: dict[str, float]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments)
        parts[part] = parts.get(part, 0.0) + time.perf_counter() - started
        return result

    return run


def count_flops(model: str, num_boxes: int, size: tuple[int, int]) -> dict[str, float]:
    """Floating-point operations an image of the fused arrangement's parts, as executed."""
    encoder: Any = make_teacher(seeded_clip(model), CONFIGS["fused"])
    flops: dict[str, float] = {}

    def counted(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            with FlopCounterMode(display=False) as counter:
                result = function(*arguments)
            flops[part] = flops.get(part, 0.0) + counter.get_total_flops()
            return result

        return run

    for part in ("feature_map", "last_stage"):
        setattr(encoder, part, counted(getattr(encoder, part), part))
    encoder.region_features(*seeded_batch(0, 1, num_boxes, size))
    return flops


def _seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
