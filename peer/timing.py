"""Every interval and time limit of the peer, in seconds. Protocol constants are in `barnraise.contract`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Passed to what waits; tests replace single fields (`dataclasses.replace`)."""

    # The volunteer

    poll: float = 0.25
    """Between two reads of the head and of what else may have changed: small against any round."""
    disk_retry: float = 10.0
    """On a full disk, before the same is written again: a person has to free space."""
    first_wait: float = 2.0
    """At the start, after the first failed attempt; each further one doubles it."""
    longest_wait: float = 120.0
    """Limit of that pause: a volunteer is back two minutes after its coordinator."""
    longest_retry: float = 15.0
    """Limit of the pause after a fault that lasts: it doubles from `retry` on. A coordinator that is back is
    asked within this time."""
    state_retry: float = 30.0
    """Where the newest checkpoint and the log lead to different states, before the next attempt: a newer
    checkpoint takes rounds."""
    repeat: float = 600.0
    """A fault that lasts is logged again after this long."""
    retry: float = 2.0
    """After a network error, before the same request is sent again."""
    reconnect_after: float = 15.0
    """Age of the newest head after which the coordinator is dialled again: three pauses of a head (5 s)."""
    back_after: float = 8.0
    """Where the newest head is older than this, a newer one means that the coordinator is back: more than a
    pause of a head (5 s) with its delay. What failed is then tried at once."""
    dial: float = 5.0
    """Between two dials of a silent coordinator."""
    silent_after: float = 20.0
    """Age of the newest head after which the coordinator counts as silent: four pauses of a head."""
    goodbye: float = 8.0
    """A leaving volunteer waits at most this long for its last contribution to be fetched."""
    watch_sending: float = 600.0
    """A published contribution is watched this long for a peer that fetches it."""
    save_inner: float = 600.0
    """Between two saves of the inner optimizer, which has twice the parameters' size. A crash costs its
    moments, means over hundreds of steps, at most this much of their history."""
    renew_look: float = 5.0
    """Between two checks whether half of the admission's life has passed: the run's clock may be set."""
    renew_retry: float = 60.0
    """At least this long between two requests to renew the admission."""

    stagger: float = 2.0
    """Before the next known address of a coordinator is tried in parallel: more than most need to answer."""

    # The evaluator

    evaluate_poll: float = 30.0
    """Between two reads of the archive for checkpoints to evaluate: small against the time between two."""

    # The auditor

    audit_call: float = 45.0
    """A request for a round to audit fails after this long: the coordinator lets it wait for 15 s."""
    audit_retry: float = 5.0
    """After a call for a round that failed, before the next one."""
    audit_failed: float = 300.0
    """After an audit that this machine could not do, as for lack of memory, before the next one."""
    audit_state: float = 60.0
    """An auditor waits this long for the state of a round that it was given, while it follows the log."""

    # The coordinator's API

    diagnosis: float = 3.0
    """For each step of finding out why no coordinator answers: a connection across the world takes 0.3 s."""
    request: float = 15.0
    """A request fails after this long; it includes connecting. A reply has a few kilobytes."""

    # Archives

    connect: float = 10.0
    """For a web server to accept a connection."""
    stall: float = 30.0
    """A web server that sends nothing for this long has failed."""
    span: float = 5.0
    """A source is asked for about as much as it delivers in this time: long against a request's round trip,
    short against the whole download, so that fast and slow sources finish together."""
    source_silent: float = 5.0
    """A source that sends no byte for this long loses its range to another one."""
    source_retry: float = 1.0
    """After a source's first failure; each further one in a row multiplies it by four."""
    measured: float = 2.0
    """A range that lasts this long measures its source's speed, however few bytes arrived."""
    lock_poll: float = 0.5
    """Between two attempts to lock a base model that another program fetches: small against any download."""


TIMING = Timing()
"""What programs run with."""
