"""Features in half precision and in 8 bits, packed, stored and read back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch.nn import functional

from regionclip import schemas
from regionclip.grouped import list_column
from regionclip.region_features import feature_width, pack_features, read_features, unpack_features

numbers = st.floats(-1e4, 1e4, width=32, allow_subnormal=False).filter(
    lambda number: number == 0 or abs(number) > 1e-30
)
features_of = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=numbers)


@settings(max_examples=100, deadline=None)
@given(features_of)
def test_no_number_in_8_bits_is_off_by_more_than_half_its_scale(features: np.ndarray) -> None:
    packed = pack_features(torch.from_numpy(features), "int8")
    scale = packed["scale"].double()[:, None]
    apart = (unpack_features(packed).double() - torch.from_numpy(features)).abs()
    assert bool((apart <= scale * (0.5 + 1e-4)).all())
    assert packed["scale"].tolist() == pytest.approx((np.abs(features).max(axis=1) / 127).tolist())
    assert (packed["features"].dtype, packed["scale"].dtype) == (torch.int8, torch.float32)


def test_a_feature_of_zeros_stays_one() -> None:
    packed = pack_features(torch.zeros(2, 3), "int8")
    assert packed["scale"].tolist() == [0, 0]
    assert unpack_features(packed).tolist() == [[0, 0, 0]] * 2


def test_a_feature_that_is_no_number_does_not_become_one() -> None:
    packed = pack_features(torch.tensor([[math.nan, 1.0], [math.inf, 1.0], [1.0, 0.5]]), "int8")
    assert unpack_features(packed).isnan().all(dim=1).tolist() == [True, True, False]


def table(features: torch.Tensor, counts: list[int], storage: schemas.Storage) -> pa.Table:
    """The columns of a regions table that hold features."""
    schema = schemas.regions(features.shape[1], storage)
    packed = pack_features(features, storage)
    columns = {
        name: list_column(each.numpy(), counts, schema.field(name).type.value_type) for name, each in packed.items()
    }
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema([schema.field(name) for name in columns]))


@pytest.mark.parametrize("storage", get_args(schemas.Storage))
def test_stored_features_are_read_as_they_were_packed(storage: schemas.Storage, tmp_path: Path) -> None:
    torch.manual_seed(0)
    features = functional.normalize(torch.randn(5, 6), dim=1)
    pq.write_table(table(features, [2, 0, 3], storage), tmp_path / "regions.parquet")
    stored = pq.read_table(tmp_path / "regions.parquet")
    read = read_features(stored)
    assert read.offsets.tolist() == [0, 2, 2, 5]
    expected = unpack_features(pack_features(features, storage))
    assert read["features"].dtype == (np.float16 if storage == "float16" else np.float32)
    np.testing.assert_array_equal(read["features"], expected.numpy())
    assert feature_width(stored.schema) == 6
    assert read_features(table(features[:0], [0, 0], storage))["features"].shape == (0, 6)


def test_half_precision_is_stored_as_it_is() -> None:
    features = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(read_features(table(features, [4], "float16"))["features"], features.half().numpy())


def test_8_bits_change_a_label_only_where_two_concepts_are_close() -> None:
    """Names differ only where the cosines of the best two do by less than sqrt(D) * scale, 2 x the largest error."""
    random = torch.Generator().manual_seed(0)
    features, concepts = (functional.normalize(torch.randn(rows, 64, generator=random), dim=1) for rows in (4000, 500))
    packed = pack_features(features, "int8")
    exact, coarse = features @ concepts.T, unpack_features(packed) @ concepts.T
    best = exact.topk(2, dim=1).values
    other = exact.argmax(dim=1) != coarse.argmax(dim=1)
    margin = (best[:, 0] - best[:, 1])[other]
    assert 0 < int(other.sum()) < 0.03 * len(features)
    assert bool((margin <= math.sqrt(64) * packed["scale"][other]).all())
    assert float(margin.max()) < 0.003
