"""Logs that are the same bytes on every machine, for each codec and outer optimizer, and their states.

python -m tests.support.golden_log FOLDER

replays the logs that another machine laid into FOLDER, builds the same here, and prints what both come to.
It needs no more than the pure part of Barnraise, so it runs on an emulated ARM machine, too.
"""

from __future__ import annotations

import functools
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.archive import CHARTER, contribution_path, entry_path
from barnraise.contract.certificates import Certificate
from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import fold_order
from barnraise.contract.log_entries import certificate_in
from barnraise.contract.pieces import pieces_hash
from barnraise.contract.records import blob_name
from barnraise.contract.spec import AdamW, RunSpec, Schedule, Sgd
from barnraise.contract.state import Layout, TrainState
from barnraise.contract.tip import genesis_tip
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Round, blob_hash
from barnraise.core.signed import open_signed, sign
from barnraise.fold.adapter_init import initial_adapter
from barnraise.fold.codec import encode_in_place
from barnraise.fold.log import Link, advance, read_step
from barnraise.fold.replay import Difference, Replay, RoundReader
from tests.support import parts

LAYOUT = Layout((("model.a.lora_A.weight", (5, 37)), ("model.a.lora_B.weight", (29, 5))))
"""No tensor fills its blocks."""
ROUNDS = 3
NEWEST = "newest.json"
"""The certificate of the last close."""
THIRDS = 3 << 12
"""Divisor of the updates' values: they fill every bit of an fp32."""
OUTERS: dict[str, Sgd | AdamW] = {
    "mean": Sgd(),
    "nesterov": Sgd(lr=0.7, momentum=0.9, nesterov=True),
    "adamw": AdamW(lr=0.01, weight_decay=0.1),
}
KINDS: dict[str, RunSpec] = {
    f"{name} {parts.codec_name(codec)}": parts.run_spec(codec, outer)
    for name, outer in OUTERS.items()
    for codec in parts.CODECS
} | {
    f"clipped {parts.codec_name(codec)}": parts.run_spec(codec, aggregate="clipped_mean")
    for codec in parts.CODECS
}
SCHEDULES = {
    "planned rounds": Schedule(rounds=ROUNDS, warmup_rounds=1, decay=0.7),
    "planned tokens": Schedule(tokens=600, warmup_rounds=2, decay=0.9),
}
"""The last round folds at a rate of a third, and of 126 / 540."""
KINDS |= {
    f"{name} {outer}": parts.scheduled(parts.run_spec(parts.CODECS[1], OUTERS[outer]), schedule)
    for name, schedule in SCHEDULES.items()
    for outer in ("nesterov", "adamw")
}


@dataclass(frozen=True)
class Log:
    charter: bytes
    closes: Sequence[bytes]
    """The payloads of the entries."""
    certificate: Certificate
    """Of the last one."""
    blobs: Sequence[Sequence[bytes]]
    """Of each round, in the order of its close."""
    votes: Mapping[int, Certificate] = field(default_factory=dict)
    """Certificates that replace those of the closes, by height."""

    def steps(self, charter: Charter) -> Iterator[Link]:
        """The closes; the certificate of each is in the next one."""
        for number, payload in enumerate(self.closes):
            last = number == len(self.closes) - 1
            certificate = self.certificate if last else certificate_in(self.closes[number + 1])
            assert certificate is not None
            step = read_step(payload, certificate, charter)
            assert isinstance(step, Link)
            yield step


def spec_of(kind: str) -> RunSpec:
    return KINDS[kind]


def genesis(spec: RunSpec) -> TrainState:
    return TrainState(initial_adapter(LAYOUT, spec.seed))


def build(spec: RunSpec, rounds: int = ROUNDS) -> Log:
    """A run of two volunteers. Where updates are clipped, those of the second one are."""
    state = genesis(spec)
    charter = parts.charter(spec, state)
    tip, closes, blobs = genesis_tip(charter), [], []
    certificate: Certificate | None = None
    for round in range(rounds):
        commits, sent = [], []
        place = functools.partial(_place, spec, round)
        for number, owner in enumerate(sorted((parts.ADA, parts.BEN), key=place)):
            louder = 8 * number if spec.aggregate == "clipped_mean" else 0
            update = parts.integers(2 * round + number, THIRDS // max(1, louder), LAYOUT)
            blob = bytes(encode_in_place(spec.codec, update, LAYOUT))
            commit = parts.commit(
                owner, round=round, base=tip.state, blob=blob_hash(blob), size=len(blob),
                pieces=pieces_hash(blob), tokens=100 + 37 * number,
            )  # fmt: skip
            commits.append(sign(owner, commit))
            sent.append(blob)
        progress = tip.position.progress.after(commit.value.tokens for commit in commits)
        link = parts.link(commits, previous=tip.previous, certificate=certificate, progress=progress)
        tip, state = advance(tip, state, link, sent, charter)
        closes.append(link.close.payload)
        certificate = link.certificate
        blobs.append(sent)
    assert certificate is not None
    return Log(sign(parts.AUTHORITY, charter).wire, closes, certificate, blobs)


def _place(spec: RunSpec, round: int, owner: Identity) -> bytes:
    return fold_order(spec.seed, Round(round), owner.public)


def come_to(log: Log) -> list[str]:
    """The hash of each state, and the log's head, which depends on every byte of the log."""
    charter = open_signed(Charter, log.charter, signer=parts.AUTHORITY.public).value
    reader, replay = RoundReader(charter, LAYOUT), Replay.from_base(charter, genesis(charter.spec))
    hashes = []
    for link, blobs in zip(log.steps(charter), log.blobs, strict=True):
        assert isinstance(replay, Replay), replay
        hashes.append(str(replay.tip.state))
        assert replay.check(link) == link
        contributions = reader.read(link, blobs)
        assert not isinstance(contributions, Difference), contributions
        replay = replay.fold(link, contributions)
    assert isinstance(replay, Replay), replay
    return [*hashes, str(replay.tip.state), str(replay.tip.previous)]


def write(log: Log, folder: Path) -> None:
    """As an archive has it, but for its checkpoints."""
    blobs = {contribution_path(blob_hash(blob)): blob for round in log.blobs for blob in round}
    closes = {entry_path(0, height): payload for height, payload in enumerate(log.closes)}
    certificate = {NEWEST: log.certificate.model_dump_json().encode()}
    for path, data in {CHARTER: log.charter, **closes, **certificate, **blobs}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def read(folder: Path) -> Log:
    charter = (folder / CHARTER).read_bytes()
    closes = [(folder / entry_path(0, height)).read_bytes() for height in range(ROUNDS)]
    certificate = Certificate.model_validate_json((folder / NEWEST).read_bytes())
    opened = open_signed(Charter, charter, signer=parts.AUTHORITY.public).value
    blobs = [
        [(folder / contribution_path(BlobHash(blob_name(commit)))).read_bytes() for commit in link.commits]
        for link in Log(charter, closes, certificate, ()).steps(opened)
    ]
    return Log(charter, closes, certificate, blobs)


def _found(folder: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    for kind in KINDS:
        yield kind, {"sent": come_to(read(folder / kind)), "built": come_to(build(spec_of(kind)))}


if __name__ == "__main__":
    print(json.dumps({"machine": platform.machine(), "found": dict(_found(Path(sys.argv[1])))}))
