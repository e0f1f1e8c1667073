"""Downloads a blob: its pieces from all of its holders, several at a time, each one checked."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from barnraise.contract.pieces import PieceList, Wanted, every_piece
from barnraise.core.errors import HashMismatch, MalformedBlob
from barnraise.core.ids import PublicKey, short
from barnraise.network.blobs.download_context import DownloadContext
from barnraise.network.blobs.holder_outcomes import BlobUnavailable, NotHeld
from barnraise.network.blobs.holder_set import Holder, HolderSet
from barnraise.network.blobs.piece_picker import HolderView, Pick, pick_next, share_of
from barnraise.network.blobs.piece_protocol import (
    HAVE,
    LIST,
    HaveReply,
    ListReply,
    NotHeldReply,
    PieceReply,
    Reply,
)
from barnraise.network.blobs.piece_store import PartialBlob
from barnraise.network.blobs.reputation import FaultKind, HolderFault
from barnraise.network.streams import now


async def download_pieces(context: DownloadContext, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
    """Get a blob into the store, of which some pieces may be here already.

    Raises BlobUnavailable with the outcome of each holder, HashMismatch where the commit's own hashes do
    not fit each other, DiskFull.
    """
    download = _PieceDownload(context, wanted, [key for key in dict.fromkeys(holders) if key != context.own])
    with context.waking(download.changed):
        try:
            return await download.run()
        finally:
            download.end()


class _PieceDownload:
    """The download of one blob."""

    def __init__(self, context: DownloadContext, wanted: Wanted, keys: Sequence[PublicKey]) -> None:
        self._context, self._wanted = context, wanted
        self._store, self._pool, self._reputation = context.store, context.pool, context.reputation
        self._timing = context.timing
        digest = hashlib.sha256(f"{context.own}/{wanted.blob}".encode()).digest()
        self._seed = int.from_bytes(digest[:8], "big")
        self._share = share_of(context.own, {*keys} - {wanted.owner}, wanted.count)
        self._turn = 0
        self._pieces: PieceList | None = None
        self._partial: PartialBlob | None = None
        self._holders = HolderSet(context, wanted, keys, self._seed, self._spawn)
        self._list_asked = -self._timing.piece_list
        self._last_useful = now()
        """When a holder last had a missing piece."""
        self.changed = asyncio.Event()
        self._failure: BaseException | None = None

    async def run(self) -> Path:
        """Raises as `download_pieces` does. `end` must follow."""
        self._pieces = await asyncio.to_thread(self._store.known_list, self._wanted)
        while self._partial is None or self._partial.missing:
            self.changed.clear()
            if self._pieces is not None and self._partial is None:
                self._partial = self._store.open_partial(self._wanted, self._pieces)
                await asyncio.to_thread(self._partial.resume)
                continue
            self._holders.connect_more(self._missing)
            self._request_pieces()
            self._poll_holders()
            self._check_progress()
            waiting = asyncio.ensure_future(self.changed.wait())
            await asyncio.wait({waiting}, timeout=self._timing.holder_poll)
            waiting.cancel()
            if self._failure is not None:
                raise self._failure
        return await self._accept()

    def end(self) -> None:
        """Release what the download holds."""
        self._holders.close()
        if self._partial is not None:
            self._store.close_partial(self._wanted)
            self._partial = None

    async def _accept(self) -> Path:
        try:
            return await asyncio.to_thread(self._store.accept, self._wanted)
        except HashMismatch:
            self._context.record(HolderFault(self._wanted.owner, FaultKind.FALSE_COMMIT))
            raise HashMismatch(
                f"the pieces that the commit of {short(self._wanted.owner)} lists are not its blob",
                fix="The contribution cannot be used; its owner signed what does not fit together.",
            ) from None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` concurrently. It may outlive the download, to read an answer to its end."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                self._failure = task.exception() or self._failure

        return self._context.spawn(work, ended)

    @property
    def _missing(self) -> int:
        return every_piece(self._wanted.count) if self._partial is None else self._partial.missing

    def _check_progress(self) -> None:
        """Raises BlobUnavailable when no holder is left, or none has had a missing piece for too long."""
        if self._holders.may_have(self._missing):
            self._last_useful = now()
        elif self._holders.exhausted or now() - self._last_useful > self._timing.no_progress:
            count = self._wanted.count
            here = count - bin(self._missing).count("1")
            raise BlobUnavailable(self._wanted.blob, self._holders.outcomes, (here, count))

    def _request_pieces(self) -> None:
        while self._partial is not None and self._context.has_capacity:
            self._turn += 1
            views = [holder.view(self._reputation) for holder in self._holders.connected]
            pick = pick_next(
                self._partial.missing,
                views if self._context.has_capacity_for_new else [*map(_only_if_known, views)],
                self._wanted.owner,
                share=self._share,
                seed=self._seed,
                turn=self._turn,
                now=now(),
            )
            if not isinstance(pick, Pick):
                return
            holder = self._holders[pick.holder]
            holder.begin_piece(pick.piece)
            counted = ExitStack()
            counted.enter_context(self._context.in_flight(is_new=self._reputation.rate(holder.key) is None))
            self._spawn(self._fetch_piece(holder, pick.piece, counted))

    def _poll_holders(self) -> None:
        """Ask holders that serve nothing what they have by now, and one of them for the piece list."""
        for holder in self._holders.connected:
            if holder.polling or holder.in_flight:
                continue
            if holder.has and self._pieces is None:
                if now() - self._list_asked >= self._timing.piece_list:
                    self._list_asked = now()
                    holder.begin_poll()
                    self._spawn(self._fetch_list(holder))
            elif now() >= holder.poll_at:
                holder.begin_poll()
                self._spawn(self._poll(holder))

    async def _fetch_piece(self, holder: Holder, piece: int, counted: ExitStack) -> None:
        """counted: as in flight."""
        try:
            reply = await self._request(holder, piece)
        finally:
            holder.end_piece(piece)
            counted.close()
        match reply:
            case PieceReply(data=data) if self._partial is not None:
                if not self._partial.put(piece, data):
                    self._holders.blame(HolderFault(holder.key, FaultKind.BAD_HASH))
            case NotHeldReply():
                self._holders.drop(holder.key, NotHeld())
            case HaveReply():
                self._holders.blame(HolderFault(holder.key, FaultKind.BROKEN_PROMISE))

    async def _fetch_list(self, holder: Holder) -> None:
        reply = await self._request(holder, LIST)
        holder.end_poll()
        match reply:
            case ListReply(wire=wire) if self._pieces is None:
                try:
                    self._pieces = PieceList.opened(wire, self._wanted)
                except HashMismatch:
                    self._holders.blame(HolderFault(holder.key, FaultKind.BAD_HASH))
            case NotHeldReply():
                self._holders.drop(holder.key, NotHeld())
            case HaveReply():
                self._holders.blame(HolderFault(holder.key, FaultKind.BROKEN_PROMISE))

    async def _poll(self, holder: Holder) -> None:
        before = holder.has
        await self._request(holder, HAVE)
        holder.end_poll()
        first, longest = self._timing.holder_poll, self._timing.max_holder_poll
        holder.poll_again_after(first if holder.has != before else min(2 * holder.pause, longest))

    async def _request(self, holder: Holder, index: int) -> Reply | HolderFault:
        """Ask, and record what the holder has. A fault is recorded at once, and returned."""
        try:
            reply, seconds = await holder.connection.ask(self._wanted, index)
            holder.answered = True
        except asyncio.TimeoutError:
            fault = HolderFault(holder.key, FaultKind.STALLED)
        except MalformedBlob:
            fault = HolderFault(holder.key, FaultKind.BROKEN_PROMISE)
        except (OSError, EOFError):
            fault = HolderFault(holder.key, FaultKind.DISCONNECTED)
        else:
            if isinstance(reply, NotHeldReply):
                return reply
            if isinstance(reply, PieceReply):
                self._reputation.record_transfer(holder.key, len(reply.data), seconds)
            if holder.announced(reply.has):
                return reply
            fault = HolderFault(holder.key, FaultKind.BROKEN_PROMISE)
        finally:
            self._pool.close_if_unused(holder.key)
        self._holders.blame(fault)
        return fault


def _only_if_known(holder: HolderView) -> HolderView:
    """A holder that has not served a piece is asked for none now."""
    return replace(holder, free=0) if holder.rate is None else holder
