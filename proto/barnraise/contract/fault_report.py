"""What a volunteer's rehearsal found wrong with a run, for its maintainer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from barnraise.contract.records import Run, Time
from barnraise.core.signed import Extensible
from barnraise.core.strict import Hex64

MAX_REPORT_BYTES = 4096
MAX_PROBLEM = 500
"""Characters."""


class FaultReport(Extensible):
    """A claim by any key that the run cannot be trained."""

    DOMAIN = b"barnraise/FaultReport/1\n"

    run: Run
    owner: Hex64
    device: Annotated[str, Field(max_length=80)]
    """What the volunteer rehearsed on."""
    problem: Annotated[str, Field(max_length=MAX_PROBLEM)]
    """What fails, for people."""
    at: Time
