"""Every interval, time limit and retry of the coordinator. Protocol constants are in `barnraise.contract`."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.heartbeat import MISSED, SHORTEST


@dataclass(frozen=True)
class Timing:
    """Times in seconds. Passed to what waits; tests replace single fields (`dataclasses.replace`)."""

    first_search: float = 5.0
    """Before the volunteers of the last start are dialled again while none is connected; it doubles. Also
    between two saves of known addresses."""
    longest_search: float = 60.0
    """Limit of that pause."""
    tick: float = 0.25
    """Between two decisions about the open round: small against any round."""
    head: float = 5.0
    """Between two announcements of the head while nothing changes. A peer that misses three of them takes the
    coordinator for silent."""
    peers: float = 10.0
    """Between two writes of what `coordinator peers` shows: a few megabytes in the largest swarm."""
    coordinator_silent: float = 15.0
    """Age of the newest head after which a follower searches for who leads: three pauses of a head."""
    heartbeat_transit: float = 1.0
    """A heartbeat reaches the coordinator within this time."""
    ask_holders: float = 60.0
    """After a start with a journal, volunteers get this long to say whether the run went further; a volunteer
    dials a silent coordinator every 5 s."""
    retry: float = 3.0
    """After a contribution could not be fetched, before the next attempt: its owner may be reconnecting."""
    fetch_attempts: int = 5
    """A contribution that could not be fetched this often is refused."""
    refusals: int = 5
    """An owner with this many refused contributions is ignored for the rest of the round."""
    publish_attempts: int = 3
    """Attempts of `coordinator publish` to read an archive that changes during the read, as a served one does
    after each round."""
    stop: float = 2.0
    """gRPC calls that are running when the program ends get this long."""
    status: float = 10.0
    """`coordinator status` waits this long for an answer."""
    admission: float = 48 * 3600
    """An admission is valid this long. Peers renew it at half of that, so a day without the coordinator ends
    no admission."""
    claim: float = 900.0
    """A claim to join further from the run's clock than this is a replay, or its sender's clock is off."""
    silent: float = 120.0
    """A key without heartbeats for this long may be used from another folder: a restart takes less."""
    fault_reports: float = 3600.0
    """In this time one report of a volunteer that the run cannot be trained is kept, and five of all: enough
    to learn of a fault, too few to fill a log."""

    audit: float = 120.0
    """An auditor has this long for a round, or a round's time where that is longer; then the coordinator
    audits the round itself."""
    audit_hold: float = 15.0
    """A call of an auditor waits this long for a round: proxies keep silent connections for longer."""
    audit_refused: float = 20.0
    """A key that is not vouched for, or not asked any more, asks again after this long."""

    @property
    def pause(self) -> float:
        """A pause of the program that is longer has to be made good: many heartbeats were not received.

        Half of the time for which one counts. A machine that is overloaded has shorter ones all the time.
        """
        return MISSED * SHORTEST / 2

    @property
    def first_decision(self) -> float:
        """After a start, before the first decision: every live volunteer had time for a heartbeat."""
        return SHORTEST + self.heartbeat_transit


TIMING = Timing()
"""The default."""
