"""What happens to a closer, and what it has its program do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from barnraise.consensus.state import Record
from barnraise.consensus.statements import Message, Value
from barnraise.contract.double_signing import Certified
from barnraise.core.ids import PublicKey

# Events


@dataclass(frozen=True)
class Received:
    """A message, whose signatures are checked."""

    message: Message


@dataclass(frozen=True)
class Learned:
    """An entry is decided at this place. Its certificate is checked."""

    certified: Certified


@dataclass(frozen=True)
class Candidate:
    """The closer would continue the log by this entry, whose blobs are checked and flushed."""

    value: Value


@dataclass(frozen=True)
class Checked:
    """An entry that was to be obtained continues the log, and its blobs are checked and flushed."""

    value: Value


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = Received | Learned | Candidate | Checked | Tick


# Effects


@dataclass(frozen=True)
class Flush:
    """Have the record on the disk before the next effect."""

    record: Record


@dataclass(frozen=True)
class Send:
    """Send a message. It may be lost."""

    to: PublicKey
    message: Message


@dataclass(frozen=True)
class Obtain:
    """Get an entry and its blobs, check them, and report `Checked`."""

    value: Value
    holders: tuple[PublicKey, ...]
    """Who proposes it or voted for it."""


@dataclass(frozen=True)
class Inform:
    """Send the certified entries of the log to a closer that is behind."""

    to: PublicKey


@dataclass(frozen=True)
class CatchUp:
    """Ask a closer that is ahead for the certified entries of the log."""

    holder: PublicKey


@dataclass(frozen=True)
class Decide:
    """The entry is decided: it continues the log."""

    certified: Certified


Effect = Flush | Send | Obtain | Inform | CatchUp | Decide


class Transition(Enum):
    """What a step did. One step may do several of these."""

    PROMISED = "promised a ballot"
    PROMISED_AGAIN = "sent its promise again"
    REFUSED = "refused a ballot below its promise"
    ASKED = "asked for an entry that is proposed"
    VOTED = "voted"
    VOTED_AGAIN = "sent its vote again"
    CHECKED = "checked an entry that is not to be voted on now"
    BEGAN = "began a ballot"
    COUNTED_PROMISE = "counted a promise"
    CHOSE = "proposed its own choice"
    REPEATED = "proposed the entry of the highest vote"
    UNDECIDABLE = "proposed nothing, since promises contradict each other"
    GAVE_WAY = "gave its ballot up for a higher one"
    COUNTED_VOTE = "counted a vote"
    DECIDED = "has the votes of a majority"
    LEARNED = "learned the decision"
    INFORMED = "answered a closer that is behind"
    FELL_BEHIND = "heard of a later place"
    IDLE = "had nothing to do yet"
    DROPPED = "dropped a message that changes nothing"
    REJECTED = "rejected a message that breaks the rules"
