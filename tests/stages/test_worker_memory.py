"""Memory of workers in Ray processes."""

from __future__ import annotations

import platform
import resource
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from regionclip.teachers.memory import keep_freed_memory
from stages.contract import Resources
from stages.local_context import LocalContext
from stages.parts import process_parts, read_table
from stages.storage import Folder

NUM_PAGES = (96 << 20) // 4096


class Toucher:
    """Counts the page faults of a large block that is taken, touched and freed."""

    def __init__(self) -> None:
        keep_freed_memory()

    def __call__(self, items: Sequence[int]) -> dict[str, pa.Table]:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = bytearray(NUM_PAGES * 4096)
        block[::4096] = b"x" * NUM_PAGES
        del block
        return {"faults": pa.table({"faults": [resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]})}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep freed memory")
@pytest.mark.usefixtures("ray_session")
def test_a_ray_worker_uses_a_large_block_that_it_freed_again_without_page_faults(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "out"))
    process_parts(
        LocalContext(folder, Resources(num_workers=1, num_cpus=1)), range(4), 1, Toucher, {}, ("faults",), 0.0
    )
    assert min(read_table(folder, "faults")["faults"].to_pylist()) < NUM_PAGES / 10
