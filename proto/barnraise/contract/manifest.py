"""The manifest of a checkpoint: every file's hash and size, signed by the run authority, or, while that is
away, by a closer (`check_interim`)."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from barnraise.contract.certificates import MAX_CLOSERS
from barnraise.contract.field_types import MAX_AVERAGED, Epoch, Height, RoundNumber, Void
from barnraise.contract.log_entries import ListName
from barnraise.contract.run_keys import Signers, Successors, generation_of
from barnraise.contract.schedule import NO_PROGRESS, Stated, is_over
from barnraise.contract.schedule_spec import Schedule
from barnraise.contract.standing import STANDINGS_FILE, Standings
from barnraise.contract.tip import Position, Tip, steps_of
from barnraise.core.errors import BadSignature, MalformedRecord, Unreachable
from barnraise.core.identity import KEY_BYTES, SIGNATURE_BYTES
from barnraise.core.ids import RUN_PATTERN, BlobHash, PublicKey, Round, RunId, StateHash, short
from barnraise.core.signed import Signable, Signed, open_signed
from barnraise.core.strict import Hex64, Strict

MANIFEST = "manifest.bin"
"""File of a checkpoint with its signed manifest in wire form."""
MANIFEST_JSON = "manifest.json"
"""File of a checkpoint with the same content as MANIFEST, for people and for tools that cannot read that."""
MAX_MANIFEST_BYTES = 2**20
SAFE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
_WINDOWS_DEVICES = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$", re.IGNORECASE)


Form = Literal["trained", "merged", "gguf", "base", "data"]
"""Content of a folder: the trained state (an adapter or a whole model), the adapter merged into its base
model, a GGUF file, the base model, or the run's data."""


class HeldOut(Strict):
    """A held-out loss: how well a state predicts samples that no volunteer trains on."""

    loss: Annotated[float, Field(ge=0)]
    """Mean cross entropy in nats a token."""
    tokens: Annotated[int, Field(ge=1)]
    """Tokens that the mean covers."""


class FileEntry(Strict):
    """One file of a checkpoint."""

    name: str
    """A plain file name without folders that is valid on every operating system."""
    hash: Hex64
    size: Annotated[int, Field(ge=0, lt=2**44)]

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not SAFE_NAME.fullmatch(name) or _WINDOWS_DEVICES.match(name) or name.endswith("."):
            raise ValueError("not a plain file name")
        return name


class AveragedState(Strict):
    """One of the states whose mean a checkpoint holds."""

    round: RoundNumber
    state: Hex64
    """Hash of state[round]."""


class Manifest(Signable):
    """The files of a checkpoint: state[round] in a form that transformers or peft load, or a mean of states
    (`barnraise.fold.averaging`), which nobody trains from."""

    DOMAIN = b"barnraise/Manifest/1\n"

    form: Form
    run: Annotated[str, Field(pattern=RUN_PATTERN)]
    round: Annotated[int, Field(ge=0)]
    state: Hex64
    """Hash of state[round], or of the mean: of its parameters alone, with the step of state[round]."""
    mean_of: Annotated[
        tuple[AveragedState, ...], Field(max_length=MAX_AVERAGED, exclude_if=lambda states: not states)
    ] = ()
    """The states whose mean it holds, oldest first, the last of them state[round]; none: it holds that."""
    previous: Hex64
    """Head of the log: name of the entry before this state; the charter's digest where there is none."""
    epoch: Epoch
    height: Height
    """Entries up to there."""
    closers: Annotated[tuple[Hex64, ...], Field(max_length=MAX_CLOSERS)]
    """Keys that certify the entries of `round`; none: the run key does."""
    successors: Successors = ()
    """Of the charter's run key, as far as they are named up to there."""
    standings: ListName = None
    """In force there. A checkpoint of the trained state has the list as a file."""
    void: Void = ()
    """As in `barnraise.contract.tip.Position`."""
    progress: Stated = NO_PROGRESS
    """As in `barnraise.contract.tip.Position`."""
    charter: Hex64
    """The charter's digest."""
    tokens: Annotated[int, Field(ge=0)]
    """Tokens folded before `round`."""
    held_out: HeldOut | None
    """None where it was not evaluated."""
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _has_run_key(self) -> Manifest:
        if generation_of(self.epoch) > len(self.successors):
            raise ValueError("an epoch of a run key that it does not name")
        return self

    @model_validator(mode="after")
    def _void_before(self) -> Manifest:
        if self.void and self.void[-1][1] >= self.round:
            raise ValueError("rounds are void that are not over")
        return self

    @model_validator(mode="after")
    def _names_averaged_states(self) -> Manifest:
        rounds = [each.round for each in self.mean_of]
        if not rounds:
            return self
        if len(rounds) == 1 or rounds != sorted(set(rounds)) or rounds[-1] != self.round:
            raise ValueError("the states of a mean are not several, in order, up to its round")
        if any(first < round <= last for round in rounds for first, last in self.void):
            raise ValueError("a mean of a state that is void")
        return self

    @field_validator("files")
    @classmethod
    def _distinct(cls, files: tuple[FileEntry, ...]) -> tuple[FileEntry, ...]:
        if len({entry.name.lower() for entry in files}) != len(files):
            raise ValueError("two files with one name")
        return files

    @model_validator(mode="after")
    def _has_standings(self) -> Manifest:
        if self.form == "trained" and self.standings != self._standings_file:
            raise ValueError("its list of standings is not among its files")
        return self

    @property
    def _standings_file(self) -> str | None:
        return next((entry.hash for entry in self.files if entry.name == STANDINGS_FILE), None)

    @property
    def averaged(self) -> bool:
        """Whether it holds a mean of states."""
        return bool(self.mean_of)

    def tip(self, standings: Standings) -> Tip:
        """The place of its state. standings: the list that it names.

        Raises MalformedRecord for a mean of states: the log does not continue it.
        """
        if self.averaged:
            raise _mean_named(self.round)
        return Tip(self.position(standings), StateHash(self.state))

    def position(self, standings: Standings) -> Position:
        """The place of state[round]. standings: the list that it names."""
        return Position(
            Round(self.round),
            BlobHash(self.previous),
            self.epoch,
            self.height,
            tuple(map(PublicKey, self.closers)),
            successors=self.successors,
            standings=standings,
            void=tuple((Round(first), Round(last)) for first, last in self.void),
            progress=self.progress,
        )

    @property
    def step(self) -> int:
        """Rounds that are folded into its state."""
        return steps_of(self.round, self.void)

    @property
    def place_fields(self) -> dict[str, Any]:
        """As `position_fields`."""
        return {name: getattr(self, name) for name in _PLACE}

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files)


def _mean_named(round: int) -> MalformedRecord:
    return MalformedRecord(
        f"the checkpoint of round {round} holds a mean of states, from which nobody trains",
        fix="Another one is taken. Inform the operator of the source of this one.",
    )


def position_fields(position: Position) -> dict[str, Any]:
    """The fields of a manifest that say where in the log its state is."""
    return {
        "round": position.round,
        "previous": position.previous,
        "epoch": position.epoch,
        "height": position.height,
        "closers": position.closers,
        "successors": position.successors,
        "standings": position.standings.name,
        "void": position.void,
        "progress": position.progress,
    }


_PLACE = ("round", "previous", "epoch", "height", "closers", "successors", "standings", "void", "progress")


def open_manifest(wire: bytes, *, run: RunId, signers: Signers) -> Signed[Manifest]:
    """signers: those that are known, which may name successors in it.

    Raises MalformedRecord, BadSignature.
    """
    signed = open_any_manifest(wire, signers)
    if signed.value.run != run:
        raise MalformedRecord(
            f"a checkpoint of the run {signed.value.run!r} where {run!r} was expected",
            fix="Ask for the right run's invite or address.",
        )
    return signed


def open_any_manifest(wire: bytes, signers: Signers) -> Signed[Manifest]:
    """As `open_manifest`, of any run that these keys sign for."""
    signed = open_signed(Manifest, wire, signer=None, limit=MAX_MANIFEST_BYTES)
    known = signers.introduced(signed.value.successors, signed.value.run)
    if not known.describes(signed.signer, signed.value.epoch):
        raise BadSignature(
            f"a checkpoint that {short(signed.signer)} signed, which is not a key of the run",
            fix="Check that the invite or the key is of this run; or try another source.",
        )
    return signed


def first_key(signed: Signed[Manifest]) -> PublicKey:
    """The charter's run key, as a manifest of a run key says: its successors show it."""
    successors = signed.value.successors
    return PublicKey(successors[0].statement.key) if successors else signed.signer


def check_interim(
    signed: Signed[Manifest], signers: Signers, position: Position, schedule: Schedule | None = None
) -> None:
    """Refuse a checkpoint of a single closer that would change who certifies the log, or the run key.

    Its state needs no trust: the next close names the state that it folds to. After the end none follows: for
    who would leave then, `schedule` is the run's. position: the newest one that is known. A mean of states is
    refused by whichever key: heads name states.
    Raises BadSignature, MalformedRecord; Unreachable where it says that the run is over.
    """
    if signed.value.averaged:
        raise _mean_named(signed.value.round)
    known, there = signers.introduced(signed.value.successors, signed.value.run), signed.value
    is_later = generation_of(there.epoch) > generation_of(position.epoch)
    alone = signed.signer not in known.run_keys
    if alone and (is_later or there.closers != position.closers):
        raise BadSignature(
            f"a checkpoint by {short(signed.signer)} with other closers than the log has, or a later run key",
            fix="Another one is taken. The coordinator's name any closers.",
        )
    if alone and schedule is not None and is_over(schedule, there.step, there.progress):
        raise Unreachable(
            f"that the run is over after {there.step} rounds says {short(signed.signer)} alone",
            fix="A state that the log names is taken, or the coordinator's checkpoint when it is back.",
        )


def manifest_json(signed: Signed[Manifest]) -> bytes:
    """The bytes of MANIFEST_JSON."""
    head = KEY_BYTES + SIGNATURE_BYTES
    view = {
        "about": f"What {MANIFEST} says, to be read. The proof is {MANIFEST}: {KEY_BYTES} bytes of key,"
        f" {SIGNATURE_BYTES} of Ed25519 signature, then the JSON that is signed,"
        " with the line 'barnraise/Manifest/1' before it.",
        "key": signed.signer,
        "signature": signed.wire[KEY_BYTES:head].hex(),
        "signed": signed.value.model_dump(mode="json"),
    }
    return (json.dumps(view, indent=1) + "\n").encode()
