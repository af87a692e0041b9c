"""Images of a corpus in batches of equal size, without padding, so that no image's result depends on the others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from regionclip.images import ResizeConfig, normalize, other_size, read_image, resize, resized_size

_NUM_THREADS = 2


@dataclass(frozen=True)
class ImageRecord:
    """An image file and the size in pixels that its record states."""

    image_id: int
    file_name: str
    width: int
    height: int


def records_of(table: pa.Table, named: str) -> list[ImageRecord]:
    """The images of a table's rows; its column `named` has their file names."""
    columns = (table[name].to_pylist() for name in ("image_id", named, "width", "height"))
    return [ImageRecord(*row) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class LoadedBatch:
    """Resized images: their positions among the given records and pixels uint8 [B, 3, H, W].

    scale: float32 [4], factors from boxes of the original images, all of one size, to boxes of the resized ones.
    """

    positions: list[int]
    pixels: Tensor
    scale: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the resized images."""
        return int(self.pixels.shape[-2]), int(self.pixels.shape[-1])

    def normalized(self, mean: Sequence[float], std: Sequence[float], device: str) -> Tensor:
        """float32 [B, 3, H, W]: (pixels / 255 - mean) / std."""
        return normalize(self.pixels.to(device, torch.float32).div_(255), mean, std)


def load_batches(
    read: Callable[[str], bytes],
    records: Sequence[ImageRecord],
    config: ResizeConfig,
    batch_size: int,
    reject: Callable[[str, str], None],
    least_side: int = 1,
) -> Iterator[LoadedBatch]:
    """Read and resize the images of all records, at most `batch_size` of one size at a time, the next batch ahead.

    One that cannot be read, whose size is not the recorded one, or that is resized to a side below `least_side`
    pixels goes to `reject(file name, reason)` instead. `read` raises ValueError for a file that is not there to be
    read; its OSErrors are those of a disk or server, and no image is rejected for them.
    """

    def load(position: int) -> Image.Image | str:
        record = records[position]
        try:
            image = read_image(read(record.file_name))
        except ValueError as error:
            return str(error)
        problem = other_size(image.size, (record.width, record.height)) or _too_narrow(record, config, least_side)
        return problem or resize(image, config)

    chunks = list(_equal_sizes(records, batch_size))
    with ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="images") as threads:
        ahead = [threads.submit(load, position) for position in chunks[0]] if chunks else []
        for number, positions in enumerate(chunks):
            coming = ahead
            ahead = [threads.submit(load, position) for position in itertools.chain(*chunks[number + 1 : number + 2])]
            found: dict[int, Image.Image] = {}
            for position, future in zip(positions, coming, strict=True):
                image = future.result()
                if isinstance(image, str):
                    reject(records[position].file_name, image)
                else:
                    found[position] = image
            if found:
                yield _batch(found, records[positions[0]])


def _too_narrow(record: ImageRecord, config: ResizeConfig, least_side: int) -> str:
    width, height = resized_size(record.width, record.height, config)
    if min(width, height) >= least_side:
        return ""
    return f"{record.width} x {record.height} pixels become {width} x {height}; each side needs {least_side}"


def _equal_sizes(records: Sequence[ImageRecord], batch_size: int) -> Iterator[list[int]]:
    def size(position: int) -> tuple[int, int]:
        return records[position].width, records[position].height

    for _, group in itertools.groupby(sorted(range(len(records)), key=size), key=size):
        positions = list(group)
        for start in range(0, len(positions), batch_size):
            yield positions[start : start + batch_size]


def _batch(found: dict[int, Image.Image], record: ImageRecord) -> LoadedBatch:
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in found.values()])).permute(0, 3, 1, 2)
    height, width = pixels.shape[-2:]
    scale_x, scale_y = width / record.width, height / record.height
    return LoadedBatch(list(found), pixels.contiguous(), torch.tensor([scale_x, scale_y, scale_x, scale_y]))
