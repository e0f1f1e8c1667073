"""The entries of an archive's log with their certificates: each one's is in the entry after it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from barnraise.contract.archive import ArchiveIndex
from barnraise.contract.certificates import Certificate
from barnraise.contract.log_entries import certificate_in
from barnraise.core.errors import TrustError
from barnraise.fold.log import Step, Unreadable
from barnraise.fold.replay import Cause, Difference, RoundReader
from peer.verify.archive_reader import NOT_THERE, ArchiveReader

KEPT = 8
"""Payloads that are kept for the entry before."""


@dataclass
class EntryReader:
    """Fetches each payload once. Raises Unreachable."""

    archive_reader: ArchiveReader
    index: ArchiveIndex
    rounds: RoundReader
    _payloads: dict[int, asyncio.Task[bytes | Difference]] = field(default_factory=dict)

    async def step(self, height: int) -> Step | Unreadable | Difference:
        """The entry of a height, as `RoundReader.open` checks it."""
        payload, certificate = await self._payload(height), await self._certificate(height)
        if isinstance(payload, Difference):
            return payload
        if isinstance(certificate, Difference):
            return certificate
        return await asyncio.to_thread(self.rounds.open, self.index.path_of(height), payload, certificate)

    def close(self) -> None:
        """Cancel what is being fetched."""
        for task in self._payloads.values():
            task.cancel()

    async def _payload(self, height: int) -> bytes | Difference:
        if height not in self._payloads:
            path = self.index.path_of(height)
            self._payloads[height] = asyncio.create_task(self.archive_reader.entry(path))
            for old in [known for known in self._payloads if known < height - KEPT]:
                del self._payloads[old]
        return await asyncio.shield(self._payloads[height])

    async def _certificate(self, height: int) -> Certificate | Difference:
        after = height + 1
        if after >= self.index.entries:
            return self.index.certificate or self._uncertified(height, NOT_THERE)
        payload = await self._payload(after)
        if isinstance(payload, Difference):
            return payload
        try:
            found = await asyncio.to_thread(certificate_in, payload)
        except TrustError as error:
            return self._uncertified(after, error.problem)
        return found or self._uncertified(after, NOT_THERE)

    def _uncertified(self, height: int, found: str) -> Difference:
        path = self.index.path_of(height)
        return Difference("entry", path, "the certificate of an entry of the log", found, Cause.SOURCE)
