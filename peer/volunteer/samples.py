"""The samples that a volunteer trains on, from shards that are fetched on demand."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from barnraise.contract.assign import Assignment
from barnraise.contract.charter import Charter
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Presence
from barnraise.contract.shards import MAX_INDEX_BYTES, DataIndex, Sample, Shard, ShardRef, parse_shard
from barnraise.contract.tip import Position, holders
from barnraise.core.errors import BarnraiseError, FileDamaged, InvalidRun, MalformedBlob, Unreachable
from barnraise.core.ids import BlobHash, PublicKey, Round, short
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore

SHARDS_IN_MEMORY = 4
MOST_OTHERS = 16
"""Volunteers that are asked for a shard which neither the coordinator nor a closer serves."""


class Samples:
    """The samples that are assigned to one volunteer."""

    def __init__(
        self,
        charter: Charter,
        owner: PublicKey,
        index: DataIndex,
        swarm: Swarm,
        blobs: BlobStore,
        others: Callable[[], Sequence[Presence]] = tuple,
        keys: KeysInForce | None = None,
    ) -> None:
        """others: the volunteers that are present, which may have shards. keys: of who has all of them."""
        self._others = others
        self._seed, self._charter, self._keys = charter.spec.seed, charter, keys
        self._owner, self._index, self._shard_sizes = owner, index, index.shard_sizes
        self._swarm, self._blobs = swarm, blobs
        self._prefetched: Round | None = None
        self._parsed: OrderedDict[int, Shard] = OrderedDict()

    @property
    def _holders(self) -> tuple[PublicKey, ...]:
        return holders(self._charter, None if self._keys is None else self._keys.at_work)

    @property
    def chance(self) -> float:
        """The loss of a model that knows nothing, in nats a token."""
        return self._index.chance

    async def batch(self, round: Round, start: int, count: int, *, away: bool = False) -> list[Sample]:
        """Samples start … start + count - 1 of this volunteer in `round`.

        away: the coordinator is; samples of shards that are here take the place of others.
        Raises Unreachable, or InvalidRun where the run's data cannot be trained on.
        """
        places = self._assignment(round).take(start, count)
        if away:
            places = await asyncio.to_thread(self._here, places)
        return [(await self._shard(shard)).sample(row) for shard, row in places]

    async def prefetch(self, round: Round) -> None:
        """Fetch the shard that `round` begins with, which may open while the coordinator is away.

        One attempt for each round: a failure leaves it to `batch`.
        """
        if round == self._prefetched:
            return
        self._prefetched = round
        with suppress(BarnraiseError):
            shard, _ = self._assignment(round).at(0)
            ref = self._index.shards[shard]
            await self._swarm.fetch(ref.blob, ref.size, self._having())

    def _assignment(self, round: Round) -> Assignment:
        with _signed_by_maintainer("the run's data"):
            return Assignment(self._seed, round, self._owner, self._shard_sizes)

    def _having(self) -> tuple[PublicKey, ...]:
        return (*self._holders, *_owners(self._others()))

    def _here(self, places: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Samples of shards that are here in the place of others. Slow where a run has many shards."""
        shards = self._index.shards
        lacking = {shard for shard, _ in places if shards[shard].blob not in self._blobs}
        held = [number for number, ref in enumerate(shards) if ref.blob in self._blobs] if lacking else []
        if not held:
            return tuple(places)
        instead = {shard: held[shard % len(held)] for shard in lacking}
        return tuple(
            (instead[shard], row % self._shard_sizes[instead[shard]]) if shard in instead else (shard, row)
            for shard, row in places
        )

    async def _shard(self, number: int) -> Shard:
        if number not in self._parsed:
            index = self._index
            ref = index.shards[number]
            data = await read_blob(self._swarm, self._blobs, ref.blob, ref.size, *self._having())
            with _signed_by_maintainer(f"shard {number} of the run's data"):
                shard = await asyncio.to_thread(parse_shard, data, index.sequence_length, index.vocab_size)
                _check_rows(shard, ref)
            self._parsed[number] = shard
            if len(self._parsed) > SHARDS_IN_MEMORY:
                self._parsed.popitem(last=False)
        self._parsed.move_to_end(number)
        return self._parsed[number]


def _check_rows(shard: Shard, ref: ShardRef) -> None:
    """Raises MalformedBlob where a shard has other rows than the index says."""
    if len(shard) != ref.samples:
        raise MalformedBlob(
            f"it has {len(shard)} samples, and the index says {ref.samples}", fix="Build the dataset again."
        )


def _owners(present: Sequence[Presence]) -> tuple[PublicKey, ...]:
    return tuple(PublicKey(presence.owner) for presence in present[:MOST_OTHERS])


async def fetch_index(
    charter: Charter,
    swarm: Swarm,
    blobs: BlobStore,
    others: Sequence[Presence] = (),
    position: Position | None = None,
) -> DataIndex:
    """The run's data index. others: volunteers, which have it too. position: as of `holders`.

    Raises Unreachable, InvalidRun.
    """
    having = (*holders(charter, position), *_owners(others))
    data = await read_blob(swarm, blobs, charter.data_index_hash, MAX_INDEX_BYTES, *having)
    with _signed_by_maintainer("the index of the run's data"):
        return DataIndex.from_bytes(data)


@contextmanager
def _signed_by_maintainer(what: str) -> Iterator[None]:
    """Turn MalformedBlob into InvalidRun: the hash of these bytes follows from the signed charter."""
    try:
        yield
    except MalformedBlob as fault:
        raise InvalidRun(
            f"{what} cannot be used: {fault.problem}. Its bytes are those that the run's maintainer signed",
            fix="Report it to the run's maintainer, who has to start a new run. If the run uses a newer "
            "Barnraise than you, update yours.",
        ) from None


async def read_blob(swarm: Swarm, blobs: BlobStore, name: BlobHash, limit: int, *having: PublicKey) -> bytes:
    """A blob's bytes, fetched where it is missing, and once more where our copy is damaged."""
    await swarm.fetch(name, limit, having)
    try:
        return await asyncio.to_thread(blobs.get, name)
    except (FileDamaged, FileNotFoundError):  # damaged; or removed with a contribution that named it
        await swarm.fetch(name, limit, having)
    try:
        return await asyncio.to_thread(blobs.get, name)
    except FileNotFoundError:
        raise Unreachable(f"the blob {short(name)} was removed", fix="It is fetched again.") from None
