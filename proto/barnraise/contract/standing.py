"""The standing of a key in a run: a pure function of the log.

| level     | what it may do                                  | what leads to another level                  |
|-----------|-------------------------------------------------|----------------------------------------------|
| probation | contributes; all of them together have a share  | `trust.probation_work` audited contributions |
| trusted   | contributes                                     | a verdict: suspended                         |
| suspended | contributes with weight 0                       | audited work, or another verdict: banned     |
| banned    | nothing: its records are dropped                | the maintainer's order                       |

The maintainer's order may set every level. Keys start on probation in an open run, and trusted in others;
those in `trust.vouched` are trusted from the start. `Standings` has the keys that the log names, and the
invitations that are revoked. Its bytes
are a blob, named by a SHA-256 in closes, heads and manifests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from barnraise.contract.invitation import InvitationId
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.core.strict import Hex64, Strict

Level = Literal["probation", "trusted", "suspended", "banned"]
Work = Annotated[int, Field(ge=0, lt=2**40)]

MAX_STANDINGS_BYTES = 4 * 2**20
"""Of one list: about 45,000 keys."""
STANDINGS_FILE = "standings.json"
"""File of a checkpoint: the list at its place in the log. A checkpoint has none where the list is empty."""


@dataclass(frozen=True)
class Standing:
    """What the log says of one key."""

    level: Level
    work: int = 0
    """Its audited contributions."""

    @property
    def has_weight(self) -> bool:
        """Whether its contributions count in a round."""
        return self.level in ("probation", "trusted")

    @property
    def is_banned(self) -> bool:
        """Whether its records are dropped."""
        return self.level == "banned"


_NEW, _TRUSTED = Standing("probation"), Standing("trusted")
"""Of keys that the log does not name: a coordinator asks for thousands of them, several times a second."""

SavedStandings = dict[Hex64, tuple[Level, Work]]
"""As JSON."""


class SavedList(Strict):
    """A list as JSON."""

    version: Literal[1] = 1
    keys: SavedStandings = Field(default_factory=dict)
    revoked: tuple[InvitationId, ...] = ()


@dataclass(frozen=True)
class Standings:
    """The keys that the log names, sorted, and their standings. Two are equal where their bytes are."""

    by_key: Mapping[PublicKey, Standing]
    revoked: frozenset[str] = frozenset()
    """Invitations that admit nobody any more."""

    def of(self, key: PublicKey, trust: TrustSpec) -> Standing:
        """The standing of any key."""
        return self.by_key.get(key) or first_standing(key, trust)

    def bans(self, key: PublicKey) -> bool:
        """Whether the key's records are dropped."""
        return key in self.banned

    def lists(self, key: PublicKey, trust: TrustSpec) -> bool:
        """Whether a run may fold what a key contributes: of a run with a list, the spec or the log names it.

        A closer admits keys, and one that lies admits any.
        """
        listed = trust.mode != "allow-list" or key in trust.vouched or key in self.by_key
        return listed and not self.bans(key)

    @cached_property
    def banned(self) -> frozenset[PublicKey]:
        """All keys whose records are dropped."""
        return frozenset(key for key, standing in self.by_key.items() if standing.is_banned)

    def with_items(
        self, items: Iterable[tuple[PublicKey, Standing]], revoked: Iterable[str] = ()
    ) -> Standings:
        """With other standings of some keys, and more invitations that are revoked."""
        return standings_of({**self.by_key, **dict(items)}, self.revoked.union(revoked))

    @cached_property
    def payload(self) -> bytes:
        """The bytes that name the list."""
        return self.saved.model_dump_json().encode()

    @cached_property
    def name(self) -> BlobHash | None:
        """SHA-256 of the payload; None where the list is empty."""
        return BlobHash(hashlib.sha256(self.payload).hexdigest()) if self else None

    @property
    def saved(self) -> SavedList:
        """As JSON."""
        keys = {str(key): (standing.level, standing.work) for key, standing in self.by_key.items()}
        return SavedList(keys=keys, revoked=tuple(sorted(self.revoked)))

    def __bool__(self) -> bool:
        return bool(self.by_key or self.revoked)

    def __iter__(self) -> Iterator[PublicKey]:
        return iter(self.by_key)

    def __len__(self) -> int:
        return len(self.by_key)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Standings) and self.name == other.name)

    def __hash__(self) -> int:
        return hash(self.name)


def standings_of(by_key: Mapping[PublicKey, Standing], revoked: frozenset[str] = frozenset()) -> Standings:
    """A list of these keys and invitations."""
    return Standings(MappingProxyType({key: by_key[key] for key in sorted(by_key)}), revoked)


def restored(saved: SavedList) -> Standings:
    """The list of which `Standings.saved` is the JSON."""
    keys = {PublicKey(key): Standing(level, work) for key, (level, work) in saved.keys.items()}
    return standings_of(keys, frozenset(saved.revoked))


NONE = standings_of({})
"""Where the log names no key."""


def read_standings(payload: bytes, name: str | None) -> Standings:
    """The list that a record names: None for the empty one. Raises MalformedRecord."""
    if name is None:
        return NONE
    if len(payload) > MAX_STANDINGS_BYTES:
        raise _malformed(f"{len(payload)} bytes, where at most {MAX_STANDINGS_BYTES} are read")
    try:
        found = restored(SavedList.model_validate_json(payload))
    except (ValidationError, ValueError) as error:
        raise _malformed(str(error).splitlines()[0]) from None
    if found.name != name or found.payload != payload:
        raise _malformed(f"its bytes are not those of {name[:8]}")
    return found


def first_standing(key: PublicKey, trust: TrustSpec) -> Standing:
    """The standing of a key that the log does not name."""
    return _NEW if trust.mode == "open" and key not in trust.vouched else _TRUSTED


def _malformed(why: str) -> MalformedRecord:
    return MalformedRecord(f"a list of standings is none: {why}", fix="It is dropped; another copy is tried.")
