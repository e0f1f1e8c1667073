"""All errors that end a command: what went wrong, on whose side, and what to do next.

    BarnraiseError
    ├── UserError          2   what was typed or written in a file
    │   ├── SpecError          a run.toml or setting that cannot be
    │   ├── InviteError        an invite link that cannot be read
    │   ├── DatasetError       a dataset that is empty, broken or unusable
    │   ├── ModelUnusable      a base model that is broken, or of a kind that a run cannot train
    │   └── FolderInUse        another program uses the same folder
    ├── MachineError       3   this machine cannot do it
    │   ├── DiskFull
    │   ├── NotFinite          a loss or gradient that is no number
    │   ├── TooLargeForMemory
    │   └── ModelUnavailable   the base model cannot be fetched or read
    │       └── ModelMissing   there is none of this name
    ├── NetworkError       4   a server or a peer cannot be reached
    │   └── Unreachable
    ├── TrustError         5   bytes from others that do not match their hash, signature or format
    │   ├── WrongRunKey
    │   ├── BadSignature
    │   ├── BannedKey          a record of a key that the log bans
    │   ├── HashMismatch
    │   ├── MalformedBlob
    │   └── MalformedRecord
    ├── RefusedError       6   the coordinator refuses
    └── StateError         7   saved state that does not match, or replicas that differ
        ├── FileDamaged        a file of ours whose bytes changed; it is set aside
        ├── NewerVersion       written by a version of Barnraise that has more than this one
        └── InvalidRun         what the run's maintainer signed cannot be used or trained

The number is the exit status of the program. 1 is a bug in Barnraise (an unexpected exception), 130 is
Ctrl-C.
"""

from __future__ import annotations

from typing import ClassVar

from barnraise import __version__
from barnraise.core.plain_text import one_line
from barnraise.core.releases import is_newer


class BarnraiseError(Exception):
    """An error in two sentences: `problem` says what is wrong, `fix` what to do next.

    Both are plain text on one line, although they may quote what others wrote.
    """

    exit_code: ClassVar[int] = 1
    fault: ClassVar[str] = "Barnraise"
    """Where the cause lies, in words."""

    def __init__(self, problem: str, *, fix: str) -> None:
        self.problem = one_line(problem)
        self.fix = one_line(fix)
        super().__init__(self.problem)

    def __str__(self) -> str:
        return f"{self.problem}\n  → {self.fix}"


class UserError(BarnraiseError):
    """The command line or a file is wrong."""

    exit_code = 2
    fault = "the command or a file"


class SpecError(UserError):
    """A run.toml or a setting is invalid."""


class InviteError(UserError):
    """An invite link cannot be parsed."""


class DatasetError(UserError):
    """A dataset is empty, broken or unusable."""


class ModelUnusable(UserError):
    """A base model is broken, or of a kind that a run cannot train."""


class FolderInUse(UserError):
    """Another program uses the same folder."""


class MachineError(BarnraiseError):
    """This machine cannot do what is asked."""

    exit_code = 3
    fault = "this machine"


class DiskFull(MachineError):
    """The disk is full."""


class NotFinite(MachineError):
    """A loss or a gradient is not a finite number."""


class TooLargeForMemory(MachineError):
    """The model does not fit into memory."""


class ModelUnavailable(MachineError):
    """The base model cannot be fetched or read."""


class ModelUnreachable(ModelUnavailable):
    """The network failed while the base model was fetched; trying again later may help."""


class DeviceFailed(MachineError):
    """A GPU failed while it computed."""


class ModelMissing(ModelUnavailable):
    """No folder or repository has the base model's name."""


class NetworkError(BarnraiseError):
    """The network failed; trying again later may help."""

    exit_code = 4
    fault = "the network"


class Unreachable(NetworkError):
    """A server or a peer does not respond."""


class TrustError(BarnraiseError):
    """Bytes from others do not match their hash, signature or format."""

    exit_code = 5
    fault = "the sender of these bytes"


class WrongRunKey(TrustError):
    """The server has another key than the invite."""


class BadSignature(TrustError):
    """A signature does not verify, or is of the wrong key."""


class BannedKey(TrustError):
    """A record of a key that the log bans."""


class HashMismatch(TrustError):
    """Bytes do not have the expected hash."""


class MalformedBlob(TrustError):
    """A blob does not have its format."""


class MalformedRecord(TrustError):
    """A record does not have its format."""


class RefusedError(BarnraiseError):
    """The coordinator refused a request."""

    exit_code = 6
    fault = "the coordinator's rules"


class KeyInUse(RefusedError):
    """Another program takes part with the same key."""


class KeyBanned(RefusedError):
    """The run bans our key."""


class StateError(BarnraiseError):
    """Saved state does not match, or replicas differ."""

    exit_code = 7
    fault = "saved or shared state"


class FileDamaged(StateError):
    """A file that this program wrote has other bytes now."""


class NewerVersion(StateError):
    """Something is in the format of a newer version of Barnraise."""

    def __init__(self, what: str, release: str) -> None:
        """what: the subject of a sentence. release: the first version that reads it, as the format says."""
        if is_newer(release, __version__):
            problem, wanted = f"{what} needs Barnraise {release} or newer", f"'barnraise>={release}'"
        else:
            problem, wanted = f"{what} needs a newer Barnraise than {__version__}", "barnraise"
        super().__init__(problem, fix=f"Install it: pip install -U {wanted}")
        self.release = release


class InvalidRun(StateError):
    """What the run's authority signed cannot be used, or cannot be trained: no peer is at fault."""

    fault = "the run's maintainer"
