"""Any image tower as a teacher: each box is cut out of the image and sent through the whole tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align

from regionclip.precision import full_precision
from regionclip.teachers.teacher import TeacherConfig, indexed_boxes

_CROPS_AT_ONCE = {"cpu": 32, "cuda": 512}


class CropTeacher:
    """Crops of several images share a batch; each is the box stretched to the tower's own size.

    A pixel of a crop is the mean of bilinear samples about one image pixel apart (RoIAlign of the pixels); what lies
    outside the image is zero, the mean colour.
    """

    def __init__(self, visual: Any, width: int, config: TeacherConfig) -> None:
        size = visual.image_size
        self._size: tuple[int, int] = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self._tower = torch.compile(visual) if config.compile else visual
        self._dtype = config.dtype
        self.width, self.least_side = width, 1

    @full_precision()
    @torch.inference_mode()
    def region_features(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """See `Teacher`."""
        raw = [images.new_empty(0, self.width)]
        for some in torch.split(indexed_boxes(images, boxes), _CROPS_AT_ONCE[images.device.type]):
            if len(some):
                crops = roi_align(images, some, self._size, sampling_ratio=-1, aligned=True)  # [r, 3, *size]
                features = self._tower(crops.to(self._dtype))
                raw.append((features[0] if isinstance(features, tuple) else features).float())
        return functional.normalize(torch.cat(raw), dim=-1)
