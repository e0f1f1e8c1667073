"""Makes the run that `tests/coordinator/store/golden_journal.json` keeps: see test_golden_journal.

python -m tests.support.kept_run FOLDER    writes the run into an empty folder, and the two golden files

Once a version is released, later ones continue its files, and do not make them again.
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

from barnraise.contract.manifest import HeldOut
from barnraise.contract.records import Evaluation, JoinClaim
from barnraise.core.ids import BlobHash, Millis
from barnraise.core.signed import sign
from barnraise.models.lora_files import ADAPTER_CONFIG
from barnraise.runtime.blob_store import BlobStore
from coordinator.run_folder import BLOBS, CHAT_TEMPLATE
from coordinator.store.journal import Journal
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import contribution, fold_round, show
from tests.support.parts import ADA, BEN, NOW, STRANGER
from tests.support.vouching import vouching

TOKENS = 100


def make(folder: Path) -> None:
    """Seven rounds with a resume, after which the process died with a round open."""
    base = folder / "base"
    base.mkdir(parents=True)
    (base / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / CHAT_TEMPLATE).write_text("{{ messages }}", encoding="utf-8")
    (folder / ADAPTER_CONFIG).write_text("{}", encoding="utf-8")
    spec = vouching(parts.run_spec(parts.CODECS[0]))
    kept = spec.checkpoint.model_copy(update={"keep": 2, "log_gigabytes": 1e-6, "rollback_rounds": 0})
    spec = spec.model_copy(update={"checkpoint": kept})
    with closing(Journal(folder / "journal.sqlite")) as journal:
        charter = parts.charter(spec, parts.state())
        store = RunStore.begin(parts.AUTHORITY, charter, parts.state(), base, folder, journal, NOW)
        show(store, loss=3.0)
        for number, owner in enumerate((ADA, BEN)):
            claim = JoinClaim(run=parts.RUN, owner=owner.public, name=f"peer {number}", credit=True, at=NOW)
            store.admit(sign(owner, claim), Millis(NOW + number))
        for round in range(7):
            if round == 4:
                store.resume(Millis(NOW + round))
            fold_round(store, ADA, BEN)
            if round % 2 == 0:
                store.write_checkpoint(Millis(NOW + 10 + round))
                show(store, loss=None if round == 6 else 2.0 - round / 10)
        for number, owner in enumerate((ADA, STRANGER)):
            store.evaluate(sign(owner, _evaluation(store, owner.public, number)), Millis(NOW + 30 + number))
        commit, blob = contribution(store, BEN)
        store.blobs.put(blob)
        store.accept(commit, Millis(NOW + 40))


def _evaluation(store: RunStore, owner: str, number: int) -> Evaluation:
    round = store.snapshot.tip.round
    held_out = HeldOut(loss=1.5 + number / 1000, tokens=TOKENS)
    return Evaluation(
        run=parts.RUN, round=round, state=store.snapshot.tip.state, panel=parts.HASH_A, owner=owner,
        loss=held_out.loss, tokens=held_out.tokens, at=NOW + number,
    )  # fmt: skip


def kept(folder: Path) -> dict[str, Any]:
    """The rows and the blobs of a run's folder."""
    with closing(Journal(folder / "journal.sqlite")) as journal:
        rows = [[row.kind.value, row.at, row.round, row.body.hex()] for row in journal.rows()]
    files = [path for path in sorted((folder / BLOBS).rglob("*")) if path.is_file() and len(path.name) == 64]
    blobs = {path.name: base64.b64encode(zlib.compress(path.read_bytes(), 9)).decode() for path in files}
    return {"rows": rows, "blobs": blobs}


def write_golden(folder: Path) -> None:
    """Make the run in an empty folder, and write the golden files of what it left and leads to."""
    from tests.coordinator.store import test_golden_journal as golden

    make(folder)
    found = kept(folder)
    with closing(Journal(folder / "journal.sqlite")):
        pass  # the write-ahead log is in the file
    packed = zlib.compress((folder / "journal.sqlite").read_bytes(), 9)
    with closing(Journal(folder / "journal.sqlite")) as journal:
        summary = golden.summary(golden.restored(journal, folder))
    blobs = BlobStore(folder / BLOBS)
    removed = sorted(name for name in found["blobs"] if BlobHash(name) not in blobs)
    found["summary"] = summary | {"files_removed": removed}
    here = Path(golden.__file__).parent
    (here / "golden_journal.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (here / "journal_version_1.zlib").write_bytes(packed)


if __name__ == "__main__":
    write_golden(Path(sys.argv[1]))
