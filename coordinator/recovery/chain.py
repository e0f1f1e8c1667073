"""A log from its charter on, as others hold it: every entry is checked before it counts. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from barnraise.contract.certificates import Certificate
from barnraise.contract.charter import Charter
from barnraise.contract.log_entries import Close, certificate_in
from barnraise.contract.manifest import Manifest
from barnraise.contract.tip import Position, first_position
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import BlobHash, Millis
from barnraise.core.signed import Signed
from barnraise.fold.log import Step, check_step, read_step
from coordinator.store.events import CheckpointPublished, CheckpointWritten, Row, entered


@dataclass(frozen=True)
class Chain:
    """Entries that follow each other from the charter on, all certified."""

    charter: Signed[Charter]
    steps: tuple[Step, ...]
    positions: tuple[Position, ...]
    """The place before each entry, and the one after the last."""

    @property
    def position(self) -> Position:
        """The end of the log."""
        return self.positions[-1]

    @property
    def length(self) -> tuple[int, int]:
        """Of two logs of a run, the one with the higher is taken: the latest epoch, and the most entries."""
        return self.position.epoch, self.position.height

    def rows(self, start: int) -> list[Row]:
        """The journal's rows of the entries from a height on."""
        return [entered(step).row() for step in self.steps[start:]]

    def has(self, manifest: Manifest) -> bool:
        """Whether a checkpoint is of a place in this log."""
        if manifest.height >= len(self.positions):
            return False
        here = self.positions[manifest.height]
        return (here.previous, here.round) == (manifest.previous, manifest.round)


def checked_chain(
    charter: Signed[Charter], payloads: Sequence[bytes], certificate: Certificate | None
) -> Chain:
    """payloads: of the entries, oldest first. certificate: of the newest.

    Raises TrustError, StateError where they are no chain, NewerVersion.
    """
    certificates = [*map(certificate_in, payloads), certificate][1:]
    positions, steps = [first_position(charter.value)], list[Step]()
    for payload, found in zip(payloads, certificates, strict=True):
        if found is None:
            raise MalformedRecord(f"entry {len(steps)} of the log has no certificate", fix="It is dropped.")
        step = check_step(positions[-1], read_step(payload, found, charter.value), charter.value)
        steps.append(step)
        positions.append(positions[-1].after(step.entry))
    return Chain(charter, tuple(steps), tuple(positions))


def shared_height(own: Sequence[BlobHash], chain: Chain) -> int:
    """Entries that both logs begin with. own: the names of the entries that the journal records."""
    shared = 0
    for name, step in zip(own, chain.steps, strict=False):
        if name != step.hash:
            break
        shared += 1
    return shared


def checkpoint_rows(manifests: Iterable[Signed[Manifest]], chain: Chain, known: Collection[int]) -> list[Row]:
    """The rows of published checkpoints of the log. known: rounds of those that the journal has.

    A mean of states is recorded where its round is: the journal decided about the others itself.
    """
    rows = []
    for signed in sorted(manifests, key=lambda signed: (signed.value.round, signed.value.averaged)):
        if chain.has(signed.value) and signed.value.round not in known:
            at = _time_of(chain, signed.value.height)
            written = [] if signed.value.averaged else [CheckpointWritten(at, signed).row()]
            rows += [*written, CheckpointPublished(at, signed).row()]
    return rows


def _time_of(chain: Chain, height: int) -> Millis:
    closes = [step.entry.at for step in chain.steps[:height] if isinstance(step.entry, Close)]
    return Millis(closes[-1] if closes else 0)
