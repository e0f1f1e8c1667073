"""The figures of a simulated swarm."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.benchmarks.record_costs import Costs


@dataclass(frozen=True)
class SimulationResult:
    """Means over the measured rounds."""

    volunteers: int
    turns: int
    contributions: float
    """Contributions folded per round."""
    seconds: float
    """From one close to the next."""
    down: float
    """Bytes of blobs that a volunteer received in a round."""
    up: float
    """Bytes that a volunteer sent in a round, if all uplinks and the coordinator's share the load evenly."""
    costs: Costs
    """Traffic of the records, by the model of `record_costs`."""
    still: float
    """Share of the time in which a volunteer did not train."""
    coordinator_cpu: float
    """Seconds of a core that the coordinator's decisions, signatures and fold took in a round."""
    coordinator_down: float
    late: float
    """Share of the contributions that missed their close."""
