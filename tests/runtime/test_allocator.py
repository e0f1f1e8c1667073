"""With freed memory kept, arrays cause few page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from barnraise.runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 17)
before = faults()
for _ in range(100):
    np.ones(1 << 17), np.ones(1 << 17)
print(faults() - before)
"""
PAGES = 100 * 2 * 2**20 // 4096
"""Of all arrays of one run of the program."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_arrays_reuse_freed_pages() -> None:
    def faults(how: str) -> int:
        said = subprocess.run(
            [sys.executable, "-c", PROGRAM, how], capture_output=True, check=True, text=True
        )
        return int(said.stdout)

    assert faults("keep") < PAGES / 10
    assert faults("leave") > PAGES / 2, "the test shows no difference"
