"""The first label of every region as flat arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.labels.first_labels import check_pool, first_labels

Table = Callable[..., pa.Table]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_region_has_the_label_that_its_row_lists_first(
    data: st.DataObject, make_table: Table, drawn_images: st.SearchStrategy[Any]
) -> None:
    images = data.draw(drawn_images)
    expected = [(image, place, region) for image, row in enumerate(images) for place, region in enumerate(row)]
    cut = data.draw(st.integers(0, len(images)))
    whole = make_table(images)
    for table in (whole, pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])):
        found = first_labels(table)
        assert found.image.tolist() == [image for image, _, _ in expected]
        assert found.region.tolist() == [place for _, place, _ in expected]
        assert found.boxes.tolist() == [list(region.box) for _, _, region in expected]
        assert found.keep.tolist() == [region.keep for _, _, region in expected]
        assert found.ids.tolist() == [region.labels[0][0] if region.labels else -1 for _, _, region in expected]
        shares = [region.labels[0][1] if region.labels else 0.0 for _, _, region in expected]
        np.testing.assert_allclose(found.scores, shares, rtol=1e-6)
        np.testing.assert_allclose(found.entropy, [region.entropy for _, _, region in expected], rtol=1e-6)
        assert found.offsets(len(images)).tolist() == [0, *np.cumsum([len(row) for row in images])]


def test_a_slice_has_only_its_regions(make_table: Table, make_region: Any) -> None:
    regions = [make_region((0, 0, size, size), [(size, 0.5)], True, size / 4) for size in (1, 2, 3)]
    found = first_labels(make_table([regions[:2], [], regions[2:]]).slice(1))
    assert (found.image.tolist(), found.region.tolist(), found.ids.tolist()) == ([1], [0], [3])
    assert found.boxes.tolist() == [[0, 0, 3, 3]]
    assert found.entropy.tolist() == [0.75]


def test_what_is_not_known_is_nan(make_table: Table, make_region: Any) -> None:
    table = make_table([[make_region((0, 0, 1, 1), [], False)], [make_region((0, 0, 1, 1), [(0, 0.5)], True)] * 2])
    unknown = pa.array([[1.5], None], table["entropy"].type)
    partly = table.set_column(table.column_names.index("entropy"), "entropy", unknown)
    np.testing.assert_array_equal(first_labels(partly).entropy, [1.5, np.nan, np.nan])
    bare = first_labels(table.select(["concept_ids", "log_probabilities", "keep"]))
    assert np.isnan(bare.entropy).all()
    assert np.isnan(bare.boxes).all()
    assert bare.boxes.shape == (3, 4)
    assert bare.ids.tolist() == [-1, 0, 0]


def test_labels_of_a_larger_pool_are_refused(make_table: Table, make_region: Any) -> None:
    labels = first_labels(make_table([[make_region((0, 0, 1, 1), [(2, 0.5)], True)]]))
    check_pool(labels, 3)
    with pytest.raises(ValueError, match="name concept 2, but the pool has 2; give the pool"):
        check_pool(labels, 2)
