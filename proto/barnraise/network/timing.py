"""Timeouts, pauses and poll intervals of the network layer. Tests pass their own `Timing`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """All fields are seconds.

    What all nodes must agree on is no timing: how long a record lives stands in
    `barnraise.network.record_dht`.
    """

    # The node

    stop: float = 5.0
    """For the DHT node, and then for the daemon, to shut down before the daemon is killed."""
    dht_blacklist: float = 2.0
    """A DHT node that did not answer is skipped for this long, each time: hivemind's default, 5 s that double
    at each failure, would skip a coordinator long after its restart."""
    relay_reply: float = 5.0
    """For a relay to answer a reservation request. It runs on the same machine, so the answer is quick or
    none."""

    daemon_start: float = 60.0
    """For the daemon to start: half a second on an idle machine; 15 s were too few on an overloaded one."""
    dial: float = 10.0
    """For connecting to a node: a few round trips, and a hole punch."""
    open_stream: float = 10.0
    """For a stream to open: a few round trips. After it the connection is dialled again."""
    daemon_poll: float = 5.0
    """Between two questions whether the libp2p daemon answers."""
    connection_check: float = 10.0
    """Between two looks at who is connected: below the time in which the daemon closes new connections."""
    daemon_answer: float = 10.0
    """For its answer, which takes a millisecond on an idle machine."""
    daemon_restart: float = 2.0
    """Pause before the next attempt to start it, after the first failed one; each further one doubles it."""
    max_daemon_restart: float = 60.0
    """Limit of that pause."""

    # Addresses

    address_poll: float = 5.0
    """Between two looks for a coordinator that moved, and after the first search for one that is silent."""
    longest_search: float = 30.0
    """Limit of the pause between two searches, which doubles: a coordinator that moved is found within a
    minute."""
    address_exchange: float = 300.0
    """Between two exchanges of addresses with another node: some 10 kB. Home addresses change daily."""

    # Gossip

    gossip_flush: float = 2.0
    """A node that leaves waits this long for records that it is sending: a few round trips."""
    gossip_retry: float = 0.5
    """Before a record is sent to the coordinator again that it did not receive, as while it has too many
    streams: less than a round."""
    min_poll: float = 5.0
    """Shortest interval between two polls of one DHT entry. Polls find only what gossip missed."""
    late_head: float = 12.0
    """Age of the newest head after which a poll asks the coordinator's node too. A head is sent every five
    seconds, and a page of addresses is ten times as large."""
    poll_expiry: float = 600.0
    """An entry that was not polled for this long is forgotten: each round has a key of its own."""

    # Blob streams

    stall: float = 20.0
    """A stream that moves nothing for this long is given up, and opening one may take as long: longer than a
    short outage of a home line, shorter than a round."""
    first_bytes: float = 10.0
    """For the first bytes of a stream that a peer opened: two round trips of a line whose queue is full. A
    peer that opens one has what it sends."""
    idle: float = 120.0
    """An asker may stay silent for this long before its stream is closed: other holders may serve it."""
    piece: float = 120.0
    """Longest time for one answer, however evenly it trickles: 256 KiB at 2.2 kB/s, below the lowest cap that
    an uplink may have (8 kB/s)."""
    slow_holder: float = 20.0
    """A holder of a whole blob that moved less than a piece (256 KiB) in this time is left for the next one.
    For the last one it is `piece`. What arrived is not fetched again."""
    holder_poll: float = 0.25
    """First pause before a holder without missing pieces is asked again, and the download's own tick."""
    max_holder_poll: float = 2.0
    """Limit of that pause, which doubles each time."""
    piece_list: float = 2.0
    """After this long without an answer another holder is asked for the piece list too."""
    no_progress: float = 10.0
    """A download whose holders have had no missing piece for this long ends: five of the longest polls."""
    redial: float = 1.0
    """Pause before a holder that served pieces and disconnected is dialled again."""

    # Reputation: bad luck is forgiven sooner than bad faith.

    bad_faith: float = 600.0
    """Wrong bytes and broken promises are remembered this long."""
    stalled: float = 60.0
    """A stalled answer is remembered this long: a line may be bad for a minute."""
    disconnected: float = 15.0
    """A lost connection is remembered this long: time for the other program to start again."""

    # Rate limits

    rate_burst: float = 0.05
    """What a capped node may move at once after a pause, as time at the full rate: little, so that a cap
    holds over short spans too."""
    rate_chunk: float = 0.02
    """A capped stream moves chunks of this much time, so that it is smooth and streams take turns."""
    background_idle: float = 0.25
    """After a chunk of another stream, before one in the background: more than most round trips, so that a
    contribution that is being sent is not slowed down."""
    background_wait: float = 2.0
    """A stream in the background sends a chunk after this long in any case: well below `stall`."""


TIMING = Timing()
"""What programs run with."""
