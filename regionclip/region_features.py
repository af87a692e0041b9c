"""Region features as tables hold them: in half precision, or in 8 bits with a scale for each region."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import torch
from torch import Tensor

from regionclip.grouped import Grouped, grouped_lists
from regionclip.schemas import Storage

FEATURES, SCALE = "features", "scale"
_LARGEST = 127


def pack_features(features: Tensor, storage: Storage) -> dict[str, Tensor]:
    """Features [R, D] as columns of R rows: `features` float16, or int8 beside `scale` float32.

    value = int8 * scale, where scale is the largest magnitude of the region / 127, and 0 for a feature of zeros; so
    no number is off by more than scale / 2.
    """
    if storage == "float16":
        return {FEATURES: features.half()}
    features = features.float()
    scale = features.abs().amax(dim=1) / _LARGEST
    divisor = scale.masked_fill(scale == 0, 1)
    return {FEATURES: (features / divisor[:, None]).round().to(torch.int8), SCALE: scale}


def unpack_features(columns: Mapping[str, Tensor]) -> Tensor:
    """The features [R, D] of `pack_features`: float16 as they are, or float32 of 8 bits."""
    features = columns[FEATURES]
    return features.float() * columns[SCALE][:, None] if SCALE in columns else features


def read_features(table: pa.Table) -> Grouped:
    """Column 'features' of a regions table (`schemas.regions`): float16 or float32 [R, D] with the images' offsets."""
    names = [name for name in (FEATURES, SCALE) if name in table.column_names]
    packed = grouped_lists(table, names)
    columns = {name: torch.from_numpy(packed[name]) for name in names}
    return Grouped(packed.offsets, {FEATURES: unpack_features(columns).numpy()})


def feature_width(schema: pa.Schema) -> int:
    """D of a regions table."""
    return int(schema.field(FEATURES).type.value_type.list_size)
