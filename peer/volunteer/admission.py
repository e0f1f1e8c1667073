"""The volunteer's admission, which expires and is renewed in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from barnraise.contract.invite import Invite
from barnraise.contract.records import Admission
from barnraise.contract.rounds import seconds_between
from barnraise.core.errors import NetworkError, RefusedError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed
from peer.coordinator_client import connect
from peer.timing import TIMING, Timing

log = logging.getLogger("peer")


@dataclass
class AdmissionRenewal:
    """Holds the newest admission and renews it at half of its life."""

    invite: Invite
    identity: Identity
    name: str
    credit: bool
    admission: Signed[Admission]
    timing: Timing = TIMING

    def text(self) -> str:
        """The newest admission, in base64."""
        return self.admission.text

    async def keep(self, clock: Callable[[], Millis]) -> None:
        """Renew it for ever. clock: the run's."""
        while True:
            left = self._seconds_left(clock())
            await asyncio.sleep(max(left / 2, self.timing.renew_retry))
            try:
                async with connect(self.invite) as api:
                    joined = await api.join(self.identity, self.name, credit=self.credit, renew=True)
                self.admission = joined.admission
            except (NetworkError, RefusedError) as error:
                log.warning(
                    "our admission was not renewed (%s); it is valid for another %.0f h",
                    error.problem,
                    left / 3600,
                )

    def _seconds_left(self, now: Millis) -> float:
        admission = self.admission.value
        return seconds_between(now, Millis(admission.expires))
