"""`peer evaluate` against a real coordinator: two who agree move `main`; false samples are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from barnraise.contract.archive import held_out_path
from barnraise.contract.evaluations import EVALUATIONS, read_evaluations
from barnraise.contract.manifest import HeldOut
from barnraise.contract.spec import DataSpec, Lora, ModelSpec, Raw, RunSpec, TrainSpec
from barnraise.core.errors import HashMismatch, TrustError
from barnraise.core.identity import Identity
from barnraise.evaluation.runner import Evaluated, evaluate_checkpoint
from barnraise.gateway import listen
from barnraise.models.base_model import resolve
from barnraise.models.trainable import initial_state
from barnraise.runtime.files import load_identity, write_atomic
from coordinator.checkpoints.card_data import card_files
from coordinator.run_folder import CHAT_TEMPLATE, HELD_OUT
from coordinator.store.journal import Journal
from coordinator.store.run_store import RunStore
from peer.archive.folder import FolderSource
from peer.archive.reading import read_archive
from peer.cli.main import main
from peer.data_dir import PEER_KEY
from peer.evaluate import _fetch_held_out_set
from tests.support import parts
from tests.support.coordinators import (
    archive,
    checkpoint,
    fold_round,
    served,
    session_of,
    until_published,
    unused_port,
    with_gateway,
)
from tests.support.parts import ADA, AUTHORITY, BEN
from tests.support.programs import Program, stage
from tests.support.tiny import TEMPLATE, make_tiny_model
from tests.support.vouching import (
    TOKENS,
    hold_out,
    names,
    publish_checkpoints,
    publisher,
    vouched_store,
    vouching,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with vouched_store(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("spoil", "error"),
    [(lambda data: data[:-1] + bytes([data[-1] ^ 1]), HashMismatch), (lambda data: data + b"x", TrustError)],
)
def test_a_held_out_set_that_differs_from_its_index_is_refused(
    store: RunStore, tmp_path: Path, spoil: Callable[[bytes], bytes], error: type[TrustError]
) -> None:
    held_out_set = publisher(store).held_out_set
    assert held_out_set is not None

    async def fetch(name: str) -> str:
        source = FolderSource(archive(store))
        return await _fetch_held_out_set(await read_archive(source, AUTHORITY.public), tmp_path / name)

    assert asyncio.run(fetch("whole")) == held_out_set.hash
    place = archive(store) / held_out_path(held_out_set.shards[0])
    data = place.read_bytes()
    place.unlink()  # a hard link to the coordinator's blob
    place.write_bytes(spoil(data))
    with pytest.raises(error):
        asyncio.run(fetch("spoiled"))


def test_the_key_command_prints_the_key_that_signs(tmp_path: Path) -> None:
    for asked in ("barn", f"barnraise://127.0.0.1:1/barn?key={AUTHORITY.public}"):
        printed = CliRunner().invoke(main, ["key", asked, "--data-dir", str(tmp_path)])
        assert printed.output.strip() == load_identity(tmp_path / PEER_KEY).public
    refused = CliRunner().invoke(main, ["key", "../barn", "--data-dir", str(tmp_path)])
    assert refused.exit_code == 2


# Real programs


@contextmanager
def tiny_run(folder: Path) -> Iterator[RunStore]:
    """A tiny model whose coordinator evaluated the first checkpoint, and cannot evaluate the second."""
    base = make_tiny_model(folder / "base")
    (folder / CHAT_TEMPLATE).write_text(TEMPLATE, encoding="utf-8")
    hold_out(folder)
    spec = RunSpec(
        name=parts.RUN, model=ModelSpec(source="not-to-be-found", licence="apache-2.0"),
        data=DataSpec(source="x", sequence_length=24), codec=Raw(),
        train=TrainSpec(target=Lora(rank=4, alpha=8.0)),
    )  # fmt: skip
    genesis = initial_state(base, spec.train.target, spec.seed)
    journal = Journal(folder / "journal.sqlite")
    try:
        fingerprint = resolve(str(base), None, folder / "cache").fingerprint
        charter = parts.charter(vouching(spec), genesis).model_copy(update={"model_files": fingerprint})
        store = RunStore.begin(AUTHORITY, charter, genesis, base, folder, journal, parts.NOW)
        first = HeldOut(loss=9.0, tokens=TOKENS)
        store.publish(0, first, card_files(store.snapshot, 0, first), parts.NOW)
        fold_round(store, ADA)
        store.write_checkpoint(parts.NOW)
        publish_checkpoints(store)
        yield store
    finally:
        journal.close()


@pytest.mark.slow
def test_two_volunteers_who_agree_move_main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with tiny_run(tmp_path / "coordinator") as store, stage(tmp_path) as programs:
        assert names(store) == {0: ("round-0", "main", "best"), 1: ("round-1", "latest")}
        made = publisher(store)
        port = unused_port()
        session = session_of(store, publisher=made, addresses=with_gateway(port))

        def evaluate(invite: str, owner: Identity, *more: str) -> Program:
            data = tmp_path / owner.public[:8]
            write_atomic(data / PEER_KEY, owner.seed, mode=0o600)
            folders = ("--data-dir", str(data), "--cache-dir", str(data / "cache"))
            return programs.start("evaluator", "peer.cli.main", "evaluate", invite, *folders, *more)

        def volunteers(invite: str) -> None:
            refused = evaluate(invite, AUTHORITY)
            first = evaluate(invite, ADA)  # repeats until SIGINT
            second = evaluate(invite, BEN, "--once")
            assert refused.wait() == 2, refused.output
            assert f"your key is not among the 3 evaluators of barn: {AUTHORITY.public}" in refused.output
            first.wait_for("round 1 (waits for 1 more of|has a held-out loss of .* by 2 of) 3 evaluators")
            assert second.wait() == 0, second.output
            first.interrupt()
            for owner in (ADA, BEN):
                left = tmp_path / owner.public[:8] / "cache"
                assert not [*left.glob("evaluate/*"), *left.glob("checkpoints/*")], "downloads remain on disk"

        async def act() -> None:
            http = await listen(archive(store), "127.0.0.1", port)
            try:
                async with served(session) as invite:
                    await asyncio.to_thread(volunteers, str(invite))
            finally:
                await http.stop()

        asyncio.run(act())
        asyncio.run(until_published(made))
        assert names(store) == {0: ("round-0",), 1: ("round-1", "main", "latest", "best")}
        folder, manifest = checkpoint(store, 1), store.snapshot.checkpoints[1].value
        own = asyncio.run(
            evaluate_checkpoint(folder, base=store.base, held_out=store.folder / HELD_OUT, tokens=TOKENS)
        )
        assert isinstance(own, Evaluated)
        assert manifest.held_out is not None
        assert manifest.held_out.tokens == own.held_out.tokens == TOKENS
        assert manifest.held_out.loss == pytest.approx(own.held_out.loss, rel=1e-5)
        assert EVALUATIONS in {entry.name for entry in manifest.files}
        signed = read_evaluations((folder / EVALUATIONS).read_bytes())
        assert {each.signer for each in signed} == {ADA.public, BEN.public}
        assert {each.value.state for each in signed} == {manifest.state}
