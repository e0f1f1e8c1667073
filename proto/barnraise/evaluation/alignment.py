"""How contributions point in relation to those of trusted keys.

The alignment of a contribution is the lower median of its cosines with the round's other trusted
contributions. Up to half of these may be an attacker's: the median stays within what the honest ones show,
where a mean direction would follow a few that all point the same way. Cosines are found from a sample of the
values, which a secret draws: with 65,536 of them a cosine of independent directions is 0 ± 0.004.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from barnraise.contract.audit_figures import MILLION
from barnraise.evaluation.similarity import Sketch

ALIGNMENT_VALUES = 65_536
"""Of a contribution: 33 MB for a round of 128."""


def alignments(sketches: Sequence[Sketch], trusted: Sequence[bool]) -> list[int]:
    """Of each contribution of a round, in millionths; 0 where no other one is trusted."""
    units = np.stack([_unit(each) for each in sketches])
    known = np.flatnonzero(trusted)
    cosines = units @ units[known].T
    return [_alignment(row[known != place]) for place, row in enumerate(cosines)]


def _alignment(cosines: npt.NDArray[np.float32]) -> int:
    if not cosines.size:
        return 0
    middle = float(np.sort(cosines)[(cosines.size - 1) // 2])
    return round(MILLION * max(-1.0, min(1.0, middle)))


def _unit(sketch: Sketch) -> Sketch:
    """Zeros where the sketch has no direction."""
    norm = float(np.sqrt(np.sum(np.square(sketch, dtype=np.float64))))
    return sketch / np.float32(norm) if np.isfinite(norm) and norm > 0 else np.zeros_like(sketch)
