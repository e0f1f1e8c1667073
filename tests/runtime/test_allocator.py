"""With freed memory kept, arrays cause few page faults, in any thread."""

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
THREADS = """
import resource, sys
from threading import Thread
import numpy as np
from barnraise.runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    [np.ones(1 << 14) for _ in range(400)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(6):
    thread = Thread(target=work)
    thread.start()
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Each thread uses 52 MB, one after the other."""
PAGES = 100 * 2 * 2**20 // 4096
"""Of all arrays of one run of the program."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_arrays_reuse_freed_pages() -> None:
    assert faults(PROGRAM, "keep") < PAGES / 10
    assert faults(PROGRAM, "leave") > PAGES / 2, "the test shows no difference"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_threads_reuse_the_pages_of_others() -> None:
    of_one = 400 * 8 * 2**14 // 4096
    assert faults(THREADS, "keep") < of_one / 2
    assert faults(THREADS, "leave") > of_one, "the test shows no difference"


def faults(program: str, how: str) -> int:
    printed = subprocess.run([sys.executable, "-c", program, how], capture_output=True, check=True, text=True)
    return int(printed.stdout)
