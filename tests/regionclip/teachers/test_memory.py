from __future__ import annotations

import platform
import resource

import pytest

from regionclip.teachers.memory import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep freed memory")
def test_a_large_block_freed_is_used_again_without_page_faults() -> None:
    assert keep_freed_memory()

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        del_me = bytearray(64 << 20)
        del_me[::4096] = b"x" * len(del_me[::4096])
        del del_me
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 1000  # of the 16384 pages
