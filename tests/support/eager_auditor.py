"""`coordinator` with the computing time to audit every round of a tiny run."""

from __future__ import annotations

from coordinator.audits import choose
from coordinator.cli.main import main as coordinator_main


def main() -> None:
    choose.COMPUTE_SHARE = 1000.0
    coordinator_main()
