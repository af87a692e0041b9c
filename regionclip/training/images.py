"""Training images by index: read, resized, kept as uint8 up to a byte budget, read ahead by threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regionclip.grouped import Grouped
from regionclip.images import ResizeConfig, normalize, other_size, read_image, resize


@dataclass(frozen=True)
class ImageFiles:
    """Names of image files, how to read the bytes of one, and the (width, height) that boxes in it go by.

    All survive pickling. `read` raises ValueError for a file that is not there to be read; its OSErrors are those of a
    disk or server. Without `sizes` an image may have any.
    """

    names: Sequence[str]
    read: Callable[[str], bytes]
    sizes: Sequence[tuple[int, int]] | None = None


@dataclass(frozen=True)
class ImageBatch:
    """Resized images of one step, padded right and bottom.

    pixels: uint8 [B, 3, H, W]; sizes: int64 [B, 2], height and width inside the padding; scales: float32 [B, 4],
    factors from boxes of the stored image to boxes of the resized one; flipped: bool [B], mirrored left to right.
    """

    pixels: Tensor
    sizes: NDArray[np.int64]
    scales: NDArray[np.float32]
    flipped: NDArray[np.bool_]

    def normalized(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> Tensor:
        """float32 [B, 3, H, W]: (pixels / 255 - mean) / std, with zeros in the padding."""
        images = normalize(self.pixels.to(device, torch.float32).div_(255), mean, std)
        height, width = self.pixels.shape[-2:]
        for index, (own_height, own_width) in enumerate(self.sizes.tolist()):
            if own_height < height:
                images[index, :, own_height:] = 0
            if own_width < width:
                images[index, :, :, own_width:] = 0
        return images

    def place(self, boxes: NDArray[np.float32], image: NDArray[np.int64]) -> NDArray[np.float32]:
        """Boxes [R, 4] of stored images in the frame of this batch; `image` [R] says in which of the B each lies."""
        placed = boxes * self.scales[image]
        mirrored = self.flipped[image]
        widths = self.sizes[image[mirrored], 1, None].astype(np.float32)
        placed[mirrored, 0::2] = widths - placed[mirrored, 2::-2]
        return placed

    def boxes(self, grouped: Grouped, indices: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Column 'boxes' of the images `indices` [B], which this batch holds, as B tensors [n_i, 4] in its frame."""
        rows, owner = grouped.rows(indices)
        placed = torch.from_numpy(self.place(grouped["boxes"][rows], owner))
        return torch.split(placed, grouped.counts(indices).tolist())


class TrainingImages:
    """Batches of resized images; `prefetch` reads those of a later batch while the current one is trained on.

    Once the budget of `cache_bytes` is full, further images are read again at each use. Raises ValueError naming the
    file when one cannot be read or has another size than recorded, and the OSErrors of `read`.
    """

    def __init__(
        self, files: ImageFiles, config: ResizeConfig, cache_bytes: int = 2_000_000_000, num_threads: int = 2
    ) -> None:
        self._files = files
        self._config = config
        self._room = cache_bytes
        self._cache: dict[int, tuple[Tensor, NDArray[np.float32]]] = {}
        self._coming: dict[int, Future[tuple[Tensor, NDArray[np.float32]]]] = {}
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="images")

    def __len__(self) -> int:
        return len(self._files.names)

    def prefetch(self, indices: NDArray[np.int64]) -> None:
        """Start to read the images that are neither kept nor on their way."""
        for index in indices.tolist():
            if index not in self._cache and index not in self._coming:
                self._coming[index] = self._threads.submit(self._load, index)

    def batch(self, indices: NDArray[np.int64], flipped: NDArray[np.bool_]) -> ImageBatch:
        """The images of `indices` [B], those with `flipped` [B] mirrored."""
        self.prefetch(indices)
        taken = {index: self._take(index) for index in dict.fromkeys(indices.tolist())}
        items = [taken[index] for index in indices.tolist()]
        sizes = np.array([image.shape[-2:] for image, _ in items], dtype=np.int64)
        height, width = sizes.max(axis=0).tolist()
        pixels = torch.zeros(len(items), 3, height, width, dtype=torch.uint8)
        for row, (image, _) in enumerate(items):
            pixels[row, :, : image.shape[1], : image.shape[2]] = image.flip(-1) if flipped[row] else image
        return ImageBatch(pixels, sizes, np.stack([scale for _, scale in items]), flipped)

    def _take(self, index: int) -> tuple[Tensor, NDArray[np.float32]]:
        if index in self._cache:
            return self._cache[index]
        item = self._coming.pop(index).result()
        if item[0].nbytes <= self._room:
            self._room -= item[0].nbytes
            self._cache[index] = item
        return item

    def _load(self, index: int) -> tuple[Tensor, NDArray[np.float32]]:
        name = self._files.names[index]
        try:
            image = read_image(self._files.read(name))
        except ValueError as error:
            raise ValueError(f"{name}: {error}; mend or remove the image") from error
        if self._files.sizes is not None and (problem := other_size(image.size, self._files.sizes[index])):
            raise ValueError(f"{name} {problem}")
        resized = resize(image, self._config)
        scale_x, scale_y = resized.width / image.width, resized.height / image.height
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()
        return pixels, np.array([scale_x, scale_y, scale_x, scale_y], dtype=np.float32)
