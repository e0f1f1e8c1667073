"""The limit of open files, in a process of its own: a limit cannot be lowered and raised at will."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource")

PROGRAM = """
import resource, sys
from barnraise.runtime.open_files import raise_open_files
soft, hard = (int(text) for text in sys.argv[1:3])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
raised = raise_open_files()
assert (raised, hard) == resource.getrlimit(resource.RLIMIT_NOFILE), raised
print(raised)
"""


@pytest.mark.parametrize(("soft", "hard", "raised"), [(256, 1024, 1024), (512, 512, 512)])
def test_the_limit_is_raised_as_far_as_the_system_allows(soft: int, hard: int, raised: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard)]
    assert int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) == raised
