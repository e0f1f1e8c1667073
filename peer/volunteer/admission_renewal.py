"""Renews a volunteer's admission to a run while it trains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from barnraise.contract.invite import Invite
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Admission
from barnraise.contract.rounds import seconds_between
from barnraise.core.errors import KeyBanned
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed
from barnraise.runtime.run_clock import RunClock
from peer.coordinator_client import ELSEWHERE, connect
from peer.timing import TIMING, Timing

log = logging.getLogger("peer")


@dataclass
class AdmissionRenewal:
    """Holds the newest admission and renews it at half of its life."""

    invite: Callable[[], Invite]
    """With the addresses of the coordinator that are known now."""
    identity: Identity
    name: str
    instance: str
    credit: bool
    admission: Signed[Admission]
    timing: Timing = TIMING
    keys: KeysInForce | None = None
    """Those in force. An admission by another one counts no longer."""
    _banned: KeyBanned | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with `_banned`."""
    _asked: Millis | None = None
    """When `ask_again` claimed last, by the clock's elapsed time."""

    def text(self) -> str:
        """The newest admission, in base64."""
        return self.admission.text

    async def keep(self, clock: RunClock) -> None:
        """Renew it until cancelled; a failed renewal is repeated. clock: the run's."""
        while True:
            await self._until_due(clock)
            try:
                await self._renew(clock)
            except ELSEWHERE as error:
                log.warning(
                    "our admission was not renewed (%s); it is valid for another %.0f h",
                    error.problem,
                    self._seconds_left(clock()) / 3600,
                )

    async def ask_again(self, clock: RunClock) -> None:
        """Claim again, unless that was a moment ago: the run answers here, and its nodes do not serve us.

        They serve a banned key nothing, not even the entry that bans it.
        """
        now = clock.elapsed()
        if self._asked is not None and seconds_between(self._asked, now) < self.timing.renew_retry:
            return
        self._asked = now
        try:
            await self._renew(clock)
        except ELSEWHERE as error:
            log.debug("our admission was not renewed: %s", error.problem)

    async def until_banned(self) -> None:
        """Wait until the run says that it bans our key. Raises KeyBanned."""
        await self._ended.wait()
        assert self._banned is not None, "it is set with the event"
        raise self._banned

    async def _renew(self, clock: RunClock) -> None:
        """As `renew`; a ban ends the program."""
        try:
            await self.renew(clock)
        except KeyBanned as error:
            self._banned = error
            self._ended.set()
            raise

    async def renew(self, clock: RunClock) -> None:
        """Claim again. Raises KeyInUse where another program takes part with our key, Unreachable, …"""
        async with connect(self.invite(), self.timing, keys=self.keys) as api:
            joined = await api.join(
                self.identity, self.name, clock, instance=self.instance, credit=self.credit, renew=True
            )
        self.admission = joined.admission

    async def _until_due(self, clock: RunClock) -> None:
        """Wait for half of the time that is left now. The run's clock may be set meanwhile."""
        due = clock() + round(500 * self._seconds_left(clock()))
        earliest = clock.elapsed() + round(1000 * self.timing.renew_retry)
        while True:
            await asyncio.sleep(self.timing.renew_look)
            if (clock() >= due or not self._counts()) and clock.elapsed() >= earliest:
                return

    def _counts(self) -> bool:
        """Whether the signer of our admission may still admit."""
        return self.keys is None or self.admission.signer in self.keys.signers

    def _seconds_left(self, now: Millis) -> float:
        admission = self.admission.value
        return seconds_between(now, Millis(admission.expires))
