"""Logs that are the same bytes on every machine, for each codec and outer optimizer, and their states.

python -m tests.support.golden_log FOLDER

replays the logs that another machine laid into FOLDER, builds the same here, and prints what both come to.
It needs no more than the pure part of Barnraise, so it runs on an emulated ARM machine, too.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import CHARTER, close_path, contribution_path
from barnraise.contract.charter import Charter
from barnraise.contract.pieces import pieces_hash
from barnraise.contract.records import blob_name
from barnraise.contract.spec import AdamW, CodecSpec, RunSpec, Sgd
from barnraise.contract.state import Layout, TrainState
from barnraise.contract.tip import genesis_tip
from barnraise.core.ids import BlobHash, Round, blob_hash
from barnraise.core.signed import open_signed, sign
from barnraise.fold.adapter_init import initial_adapter
from barnraise.fold.codec import encode_in_place
from barnraise.fold.log import advance, check_link
from barnraise.fold.replay import Difference, Replay, RoundReader
from tests.support import parts

LAYOUT = Layout((("model.a.lora_A.weight", (5, 37)), ("model.a.lora_B.weight", (29, 5))))
"""No tensor fills its blocks."""
ROUNDS = 3
THIRDS = 3 << 12
"""Divisor of the updates' values: they fill every bit of an fp32."""
OUTERS: dict[str, Sgd | AdamW] = {
    "mean": Sgd(),
    "nesterov": Sgd(lr=0.7, momentum=0.9, nesterov=True),
    "adamw": AdamW(lr=0.01, weight_decay=0.1),
}
KINDS: dict[str, tuple[CodecSpec, Sgd | AdamW]] = {
    f"{name} {parts.codec_name(codec)}": (codec, outer)
    for name, outer in OUTERS.items()
    for codec in parts.CODECS
}


@dataclass(frozen=True)
class Log:
    charter: bytes
    closes: Sequence[bytes]
    blobs: Sequence[Sequence[bytes]]
    """Of each round, in the order of its close."""


def spec_of(kind: str) -> RunSpec:
    return parts.run_spec(*KINDS[kind])


def genesis(spec: RunSpec) -> TrainState:
    return TrainState(initial_adapter(LAYOUT, spec.seed))


def build(spec: RunSpec, rounds: int = ROUNDS) -> Log:
    """A run of two volunteers."""
    state = genesis(spec)
    charter = parts.charter(spec, state)
    tip, closes, blobs = genesis_tip(charter), [], []
    for round in range(rounds):
        commits, sent = [], []
        for number, owner in enumerate((parts.ADA, parts.BEN)):
            update = parts.integers(2 * round + number, THIRDS, LAYOUT)
            blob = bytes(encode_in_place(spec.codec, update, LAYOUT))
            commit = parts.commit(
                owner, round=round, base=tip.state, blob=blob_hash(blob), size=len(blob),
                pieces=pieces_hash(blob), tokens=100 + 37 * number,
            )  # fmt: skip
            commits.append(sign(owner, commit))
            sent.append(blob)
        wire = parts.close(commits, previous=tip.previous).wire
        tip, state = advance(tip, state, check_link(wire, charter, Round(round)), sent, charter)
        closes.append(wire)
        blobs.append(sent)
    return Log(sign(parts.AUTHORITY, charter).wire, closes, blobs)


def come_to(log: Log) -> list[str]:
    """The hash of each state, and the log's head, which depends on every byte of the log."""
    charter = open_signed(Charter, log.charter, signer=parts.AUTHORITY.public).value
    reader, replay = RoundReader(charter, LAYOUT), Replay.from_base(charter, genesis(charter.spec))
    hashes = []
    for round, (wire, blobs) in enumerate(zip(log.closes, log.blobs, strict=True)):
        assert isinstance(replay, Replay), replay
        hashes.append(str(replay.tip.state))
        link = reader.open(Round(round), wire)
        assert not isinstance(link, Difference), link
        contributions = reader.read(link, blobs)
        assert not isinstance(contributions, Difference), contributions
        replay = replay.fold(link, contributions)
    assert isinstance(replay, Replay), replay
    return [*hashes, str(replay.tip.state), str(replay.tip.previous)]


def write(log: Log, folder: Path) -> None:
    """As an archive has it, but for its checkpoints."""
    blobs = {contribution_path(blob_hash(blob)): blob for round in log.blobs for blob in round}
    closes = {close_path(round): wire for round, wire in enumerate(log.closes)}
    for path, data in {CHARTER: log.charter, **closes, **blobs}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def read(folder: Path) -> Log:
    charter = (folder / CHARTER).read_bytes()
    closes = [(folder / close_path(round)).read_bytes() for round in range(ROUNDS)]
    opened = open_signed(Charter, charter, signer=parts.AUTHORITY.public).value
    links = [check_link(wire, opened, Round(round)) for round, wire in enumerate(closes)]
    blobs = [
        [(folder / contribution_path(BlobHash(blob_name(commit)))).read_bytes() for commit in link.commits]
        for link in links
    ]
    return Log(charter, closes, blobs)


def _found(folder: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    for kind in KINDS:
        yield kind, {"sent": come_to(read(folder / kind)), "built": come_to(build(spec_of(kind)))}


if __name__ == "__main__":
    print(json.dumps({"machine": platform.machine(), "found": dict(_found(Path(sys.argv[1])))}))
