"""A commit names another's blob with a false piece list, or a file of the run, and is signed correctly.

The blob that is accepted stays, the liar is blamed, and nobody else. Real session, store, codec and transfer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.pieces import Wanted, pieces_hash
from barnraise.contract.records import Commit, seal, wanted
from barnraise.core.errors import HashMismatch, Unreachable
from barnraise.core.ids import BlobHash, PublicKey, blob_hash
from barnraise.network.blobs.holder_outcomes import BlobUnavailable, NothingMissing, Untrusted
from coordinator.reasons.rounds import InvalidBlob
from coordinator.store.run_store import RunStore
from tests.support import parts, virtual_time
from tests.support.attacked import COORDINATOR, Attacked
from tests.support.coordinators import announce, contribution, opened_store, reopened
from tests.support.transfers import Net, blob, holder, honest, key

LIAR, HONEST = parts.BEN, parts.ADA
LIAR_KEY = PublicKey(LIAR.public)
DATA, OTHER = blob(1), blob(2)
TRUE = Wanted(blob_hash(DATA), len(DATA), pieces_hash(DATA), key("owner"))
FALSE = Wanted(blob_hash(DATA), len(DATA), pieces_hash(OTHER), LIAR_KEY)
"""The liar says that the same blob has another's pieces."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def files(store: RunStore, name: str) -> set[str]:
    """Suffixes of what the coordinator has of a blob."""
    return {path.name[64:] for path in store.blobs.path(BlobHash(name)).parent.glob(f"{name}*")}


def copied(store: RunStore, true: Commit) -> Commit:
    """The liar's commit of the same blob, with the list of another one of its size."""
    false = {"blob": true.blob, "size": true.size, "pieces": pieces_hash(bytes(true.size))}
    return announce(store, LIAR, b"x").value.model_copy(update=false)


@pytest.mark.parametrize("first", [True, False], ids=["the liar first", "the liar last"])
@pytest.mark.parametrize("serves", [True, False], ids=["and serves junk", "and serves nothing"])
def test_an_accepted_blob_stays_and_the_liar_is_refused(
    store: RunStore, tmp_path: Path, first: bool, serves: bool
) -> None:
    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        true, good = contribution(store, HONEST, 1)
        attacked.node(HONEST).holds(good)
        if serves:  # what fits its list, and is not the blob
            junk = bytes(true.value.size)
            attacked.swarm.net.scripted[LIAR_KEY] = holder(lambda request: honest(request, junk))
        else:
            attacked.node(LIAR)
        records = [seal(LIAR, copied(store, true.value)), seal(HONEST, true.value)]
        for value in records if first else records[::-1]:
            assert attacked.swarm.receive(value)
            await attacked.session.tick()
        await attacked.close(HONEST)
        assert attacked.folded == [{HONEST.public}]
        assert files(store, true.value.blob) <= {"", ".list"}

    virtual_time.run(scene())
    with reopened(store) as again:
        assert again.snapshot.tip == store.snapshot.tip


def test_honest_holders_do_not_blame_each_other(tmp_path: Path) -> None:
    async def scene() -> None:
        net = Net(tmp_path)
        owner, ada, cleo = (net.node(name) for name in ("owner", "ada", "cleo"))
        owner.holds(DATA)
        with pytest.raises(BlobUnavailable) as failed:  # by the liar's commit, from an honest holder
            await ada.transfer.fetch_pieces(FALSE, [key("owner")])
        assert failed.value.outcomes == {key("owner"): NothingMissing()}
        net.scripted[LIAR_KEY] = holder(lambda request: honest(request, OTHER))
        with pytest.raises(HashMismatch, match=LIAR_KEY[:8]):  # from both
            await ada.transfer.fetch_pieces(FALSE, [key("owner"), LIAR_KEY])
        assert not list(ada.blobs.folder.glob("??/*")), "nothing is kept of it"
        for node, others in ((ada, [key("owner")]), (cleo, [key("ada"), key("owner")])):
            await node.transfer.fetch_pieces(TRUE, others)  # nobody is distrusted
            assert node.blobs.get(TRUE.blob) == DATA
        theirs = Wanted(blob_hash(OTHER), len(OTHER), pieces_hash(OTHER), LIAR_KEY)
        with pytest.raises(BlobUnavailable) as again:  # but the liar
            await ada.transfer.fetch_pieces(theirs, [LIAR_KEY])
        assert again.value.outcomes == {LIAR_KEY: Untrusted()}
        with pytest.raises(HashMismatch):  # also where the blob is here already
            await cleo.transfer.fetch_pieces(FALSE, [key("owner"), LIAR_KEY])
        with pytest.raises(BlobUnavailable) as at_cleo:
            await cleo.transfer.fetch_pieces(theirs, [LIAR_KEY])
        assert at_cleo.value.outcomes == {LIAR_KEY: Untrusted()}
        assert cleo.blobs.get(TRUE.blob) == DATA

    virtual_time.run(scene())


def test_two_commits_that_describe_a_blob_alike_share_one_download(tmp_path: Path) -> None:
    """A copy of the whole commit: both are fetched at the same time."""

    async def scene() -> None:
        net = Net(tmp_path)
        owner, ada = net.node("owner"), net.node("ada")
        owner.holds(DATA)
        copy = Wanted(TRUE.blob, TRUE.size, TRUE.pieces, LIAR_KEY)
        fetches = [ada.transfer.fetch_pieces(each, [key("owner")]) for each in (copy, TRUE, copy)]
        assert [path.read_bytes() for path in await asyncio.gather(*fetches)] == [DATA] * 3
        assert len(DATA) < ada.transfer.traffic.down < len(DATA) + 1000

    virtual_time.run(scene())


def test_a_slow_liar_does_not_hold_up_the_blob_that_it_names(tmp_path: Path) -> None:
    async def scene() -> None:
        net = Net(tmp_path)
        owner, ada = net.node("owner"), net.node("ada")
        owner.holds(DATA)
        net.scripted[LIAR_KEY] = holder(lambda request: None if request.index < 5 else honest(request, OTHER))
        lying = asyncio.create_task(ada.transfer.fetch_pieces(FALSE, [LIAR_KEY]))
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await ada.transfer.fetch_pieces(TRUE, [key("owner")])
        assert asyncio.get_running_loop().time() - began < 1
        assert not lying.done()
        with pytest.raises(Unreachable):
            await lying
        assert ada.blobs.get(TRUE.blob) == DATA

    virtual_time.run(scene())


@pytest.mark.parametrize("of", ["the newest entry", "the charter"])
def test_a_commit_that_names_a_file_of_the_run_does_not_have_it_removed(
    store: RunStore, tmp_path: Path, of: str
) -> None:
    """Announced before the file is in the store: the liar's own fetch puts it there."""

    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        attacked.honest(HONEST, 1)
        assert attacked.present(HONEST)
        await attacked.ticks()
        entry = store.blobs.get(store.snapshot.log[-1].name)
        data = entry if of == "the newest entry" else store.charter.payload
        store.blobs.remove(blob_hash(data))
        attacked.node(LIAR).holds(data)
        store.__dict__["blob_sizes"] = range(len(data), len(data) + 1)  # a sparse codec has many
        assert attacked.swarm.receive(seal(LIAR, announce(store, LIAR, data).value))
        await attacked.ticks(1)
        (reason,) = attacked.session.contributions.intake.refused(LIAR_KEY)
        assert isinstance(reason, InvalidBlob)
        assert blob_hash(data) in store.blobs

    virtual_time.run(scene())


def test_a_refused_blob_is_removed(store: RunStore, tmp_path: Path) -> None:
    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        data = bytes(contribution(store, LIAR)[0].value.size)
        attacked.node(LIAR).holds(data)
        assert attacked.swarm.receive(seal(LIAR, announce(store, LIAR, data).value))
        await attacked.ticks(1)
        (reason,) = attacked.session.contributions.intake.refused(LIAR_KEY)
        assert isinstance(reason, InvalidBlob)
        assert files(store, blob_hash(data)) == set()

    virtual_time.run(scene())


def test_what_arrived_of_a_blob_that_is_not_folded_is_removed_after_the_close(
    store: RunStore, tmp_path: Path
) -> None:
    """Its owner sends the piece list, and no piece."""

    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        true, good = contribution(store, LIAR, 3)
        attacked.swarm.net.scripted[LIAR_KEY] = holder(
            lambda request: None if request.index == 0 else honest(request, good)
        )
        assert attacked.swarm.receive(seal(LIAR, true.value))
        await attacked.ticks(1)
        assert files(store, true.value.blob) != set()
        attacked.honest(HONEST, 1)
        await attacked.close(HONEST)
        await attacked.ticks(1)
        assert attacked.folded == [{HONEST.public}]
        assert files(store, true.value.blob) == set()

    virtual_time.run(scene())


def test_the_coordinator_serves_by_the_true_list_alone(store: RunStore, tmp_path: Path) -> None:
    async def scene() -> None:
        attacked = Attacked.of(store, Net(tmp_path / "net"))
        true, good = contribution(store, HONEST, 1)
        attacked.node(HONEST).holds(good)
        assert attacked.swarm.receive(seal(LIAR, copied(store, true.value)))
        assert attacked.swarm.receive(seal(HONEST, true.value))
        await attacked.ticks()
        cleo = attacked.swarm.net.node("cleo")
        path = await cleo.transfer.fetch_pieces(wanted(true.value), [PublicKey(COORDINATOR)])
        assert path.read_bytes() == good

    virtual_time.run(scene())
