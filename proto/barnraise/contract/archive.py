"""The archive of a run: its public files, with the same layout in a folder, on a mirror and over HTTP.

    archive.json                     the index (`ArchiveIndex`): a hint, not a proof
    charter.bin                      the signed charter
    log/0/000012.entry               the log's entry of height 12, in epoch 0 (its certificate is in the next)
    proofs/HASH                      proofs of double signing, where there are any
    contributions/HASH               the blobs that the closes from `replay_from` on name
    checkpoints/round-000012/        a checkpoint: its files, and manifest.bin
    checkpoints/average-000012/      a mean of states up to that round
    merged/…, gguf/…                 the same in another form
    base/, data/                     the base model, and the run's data where its licence allows
    held-out/index.json, HASH        the held-out set, where the spec names evaluators

A coordinator serves the folder, `coordinator publish` copies it, any web server can mirror it. Readers trust
signatures and hashes only: a wrong index can hide a checkpoint but not change one.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from barnraise.contract.certificates import Certificate
from barnraise.contract.charter import Charter
from barnraise.contract.field_types import Epoch, Height, Void
from barnraise.contract.manifest import Form, Manifest
from barnraise.contract.spec import Lora
from barnraise.core.errors import MalformedRecord, UserError
from barnraise.core.ids import RUN_PATTERN, BlobHash, PublicKey
from barnraise.core.strict import Hex64, Strict

INDEX = "archive.json"
CHARTER = "charter.bin"
MAX_INDEX_BYTES = 8 * 2**20
HELD_OUT_INDEX = "index.json"
"""The index of the held-out shards, as `barnraise.contract.shards.DataIndex`."""
PROOFS = "proofs"
"""Folder of the proofs of double signing, each named by its SHA-256."""
MAX_PROOFS = 64
MAIN = "main"
"""The branch: the promoted checkpoint."""
LATEST = "latest"
BEST = "best"

REPO_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
_HUB_ID = re.compile(REPO_PATTERN)
_STATE, _AVERAGE = "round", "average"
"""What the names of checkpoints begin with."""
_TAG = re.compile(rf"^({_STATE}|{_AVERAGE})-0*([0-9]{{1,9}})$")
_FOLDERS: dict[Form, str] = {
    "trained": "checkpoints/{}",
    "merged": "merged/{}",
    "gguf": "gguf/{}",
    "base": "base",
    "data": "data",
}


class Revision(Strict):
    """One checkpoint of a repository."""

    folder: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}(/[a-z0-9-]{1,40})?$")]
    """Folder of its files in the archive."""
    manifest: Hex64
    """SHA-256 of its manifest.bin; its first 40 digits are the commit of Hub clients."""
    round: Annotated[int, Field(ge=0)]
    names: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")], ...]
    """Of `main`, `latest`, `best`, `round-N` and `average-N`, the branch and the tags that point here."""

    @property
    def commit(self) -> str:
        return self.manifest[:40]

    @property
    def averaged(self) -> bool:
        """Whether it is a mean of states."""
        return average_of(self.folder.rpartition("/")[2]) is not None

    @property
    def tag(self) -> str:
        """`round-N` or `average-N`."""
        return round_tag(self.round, averaged=self.averaged)


class Repo(Strict):
    """A repository in the terms of Hub clients."""

    id: Annotated[str, Field(pattern=REPO_PATTERN)]
    kind: Literal["model", "dataset"]
    form: Form
    revisions: tuple[Revision, ...]
    """Oldest first."""
    void: Void = ()
    """As in `barnraise.contract.tip.Position`: no revision is of a state that a rollback made void."""


class Segment(Strict):
    """Consecutive entries of one epoch."""

    epoch: Epoch
    start: Height
    """Height of the first."""


class ArchiveIndex(Strict):
    """The content of `archive.json`."""

    version: Literal[2]
    run: Annotated[str, Field(pattern=RUN_PATTERN)]
    authority: Hex64
    closed: Annotated[int, Field(ge=0)]
    """Closed rounds."""
    entries: Annotated[int, Field(ge=0)] = 0
    """The archive has the log's entries of all heights below this one."""
    epochs: Annotated[tuple[Segment, ...], Field(min_length=1)] = (Segment(epoch=0, start=0),)
    """Which epoch each of them is of, oldest first."""
    certificate: Certificate | None = None
    """Of the newest entry; None where there is none."""
    proofs: Annotated[tuple[Hex64, ...], Field(max_length=MAX_PROOFS)] = ()
    """Proofs of double signing (`barnraise.contract.double_signing`)."""
    replay_from: Annotated[int, Field(ge=0)]
    """The archive has the contributions from this round on: 0, or the round of a checkpoint in it."""
    repos: tuple[Repo, ...]
    mirrors: Annotated[tuple[Annotated[str, Field(max_length=300)], ...], Field(max_length=64)] = ()
    """Addresses of other servers with a copy, named by the maintainer."""

    @field_validator("epochs")
    @classmethod
    def _from_the_start(cls, epochs: tuple[Segment, ...]) -> tuple[Segment, ...]:
        numbers, starts = [s.epoch for s in epochs], [s.start for s in epochs]
        if starts[0] != 0 or numbers != sorted(set(numbers)) or starts != sorted(starts):
            raise ValueError("the epochs do not follow each other")
        return epochs

    @field_validator("repos")
    @classmethod
    def _distinct(cls, repos: tuple[Repo, ...]) -> tuple[Repo, ...]:
        if len({(repo.kind, repo.id) for repo in repos}) != len(repos):
            raise ValueError("two repositories with one name")
        return repos

    @property
    def length(self) -> tuple[int, int]:
        """How far the log goes: the latest epoch, and the entries."""
        return self.epochs[-1].epoch, self.entries

    def path_of(self, height: int) -> str:
        """Path of the entry of a height."""
        return entry_path(max(s.epoch for s in self.epochs if s.start <= height), height)

    def repo(self, form: Form) -> Repo | None:
        return next((repo for repo in self.repos if repo.form == form), None)


def parse_index(data: bytes) -> ArchiveIndex:
    """Raises MalformedRecord."""
    if len(data) > MAX_INDEX_BYTES:
        raise MalformedRecord(f"{INDEX} is larger than {MAX_INDEX_BYTES} bytes", fix="Try another source.")
    try:
        return ArchiveIndex.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise MalformedRecord(
            f"this version cannot read {INDEX}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}",
            fix="Update Barnraise, or try another source.",
        ) from None


def folder_of(form: Form, round: int, *, averaged: bool = False) -> str:
    """The folder of a checkpoint in the archive. averaged: of a mean of states."""
    return _FOLDERS[form].format(folder_name(round, averaged=averaged))


def folder_name(round: int, *, averaged: bool = False) -> str:
    """The name of a checkpoint's folder."""
    return f"{_AVERAGE if averaged else _STATE}-{round:06d}"


def place_of(manifest: Manifest) -> str:
    """The folder of a checkpoint in the archive, by its manifest."""
    return folder_of(manifest.form, manifest.round, averaged=manifest.averaged)


def round_of(name: str) -> int | None:
    """The round of a state's folder, by the folder's name; None for other names."""
    return _number_in(name, _STATE)


def average_of(name: str) -> int | None:
    """The newest round of a mean of states, by the name of its folder; None for other names."""
    return _number_in(name, _AVERAGE)


def _number_in(name: str, kind: str) -> int | None:
    digits = name.removeprefix(f"{kind}-")
    return int(digits) if digits != name and digits.isdecimal() else None


def entry_path(epoch: int, height: int) -> str:
    return f"log/{epoch}/{height:06d}.entry"


def proof_path(name: str) -> str:
    return f"{PROOFS}/{name}"


def contribution_path(blob: BlobHash) -> str:
    return f"contributions/{blob}"


def held_out_path(name: str) -> str:
    """name: HELD_OUT_INDEX, or the hash of a shard."""
    return f"held-out/{name}"


def round_tag(round: int, *, averaged: bool = False) -> str:
    """averaged: of a mean of states."""
    return f"{_AVERAGE if averaged else _STATE}-{round}"


def tag_of(manifest: Manifest) -> str:
    """As `round_tag`, by a checkpoint's manifest."""
    return round_tag(manifest.round, averaged=manifest.averaged)


def find_revision(repo: Repo, wanted: str) -> Revision:
    """The revision that a branch, a tag, a round (`12`, `round-12`, `round-000012`), a mean of states
    (`average-12`) or a commit names.

    Raises UserError, which lists the revisions.
    """
    match = _TAG.match(f"{_STATE}-{wanted}" if wanted.isdigit() and len(wanted) < 10 else wanted)
    name = (
        f"{match[1]}-{int(match[2])}"
        if match
        else wanted.removeprefix("refs/heads/").removeprefix("refs/tags/")
    )
    for revision in reversed(repo.revisions):
        if name in revision.names or (len(wanted) >= 7 and revision.manifest.startswith(wanted)):
            return revision
    if match:
        _check_in_force(repo, int(match[2]))
    rounds = [revision.round for revision in repo.revisions if not revision.averaged]
    have = ", ".join(map(str, rounds[-20:])) or "none yet"
    raise UserError(
        f"{repo.id} has no revision {wanted[:60]!r}",
        fix=f"There are main, latest, best and the rounds {have}." if rounds else "Try again later.",
    )


def _check_in_force(repo: Repo, round: int) -> None:
    for first, last in repo.void:
        if first < round <= last:
            raise UserError(
                f"round {round} is void: round {last} was rolled back to the state of round {first}",
                fix="Take main, or a round that is not void.",
            )


def repo_id(charter: Charter, form: Form) -> str:
    """The name under which Hub clients find one form of a run's checkpoints.

    The base model keeps its name where it is a Hub id, so that an adapter finds it.
    """
    spec = charter.spec
    own = f"{spec.owner}/{spec.name}"
    match form:
        case "trained" | "data":
            return own
        case "merged" | "gguf":
            return f"{own}-{form}"
        case "base":
            return spec.model.source if _HUB_ID.match(spec.model.source) else f"{own}-base"


def forms(charter: Charter) -> tuple[Form, ...]:
    """The forms of checkpoints that the spec asks for."""
    asked = charter.spec.checkpoint
    adapter = isinstance(charter.spec.train.target, Lora)
    wanted: list[tuple[Form, bool]] = [
        ("trained", True), ("merged", asked.merged and adapter), ("gguf", asked.gguf is not None),
    ]  # fmt: skip
    return tuple(form for form, yes in wanted if yes)


def authority_of(index: ArchiveIndex) -> PublicKey:
    """The key that the index names, which is to be compared with a pinned one."""
    return PublicKey(index.authority)
