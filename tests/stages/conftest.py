"""One Ray session for all tests that need a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stages.ray_session import ensure_ray


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Any]:
    """The `ray` module, joined to a local cluster that ends with the test session."""
    ray = ensure_ray()
    yield ray
    ray.shutdown()
