"""`coordinator` as `tests.support.quick_auditor`, which waits less for auditors."""

from __future__ import annotations

from coordinator.timing import TIMING
from tests.support.quick_auditor import main as quick_main


def main() -> None:
    object.__setattr__(TIMING, "audit", 60.0)
    quick_main()
