"""Every error a person can meet, whose fault it is, and what to do next.

    BarnraiseError
    ├── UserError          2   what was typed or written in a file
    │   ├── SpecError          a run.toml or setting that cannot be
    │   ├── InviteError        an invite link that cannot be read
    │   ├── DatasetError       a dataset that is empty, broken or cannot be trained on
    │   └── FolderInUse        another program works in the same folder
    ├── MachineError       3   this machine cannot do it
    │   ├── DiskFull
    │   ├── TooLargeForMemory
    │   └── ModelUnavailable   the base model cannot be got or read
    ├── NetworkError       4   somebody cannot be reached
    │   └── Unreachable
    ├── TrustError         5   bytes from others that are not what they claim to be
    │   ├── WrongRunKey
    │   ├── BadSignature
    │   ├── HashMismatch
    │   ├── MalformedBlob
    │   └── MalformedRecord
    ├── RefusedError       6   the coordinator said no
    └── StateError         7   saved state that does not fit, or replicas that differ

The number is the exit status of the program that ends by it. 1 is a fault of ours
(an unexpected exception), 130 is Ctrl-C.
"""

from __future__ import annotations

from typing import ClassVar


class BarnraiseError(Exception):
    """An error that is told in two sentences: what is wrong, and what to do next."""

    exit_code: ClassVar[int] = 1
    fault: ClassVar[str] = "Barnraise"

    def __init__(self, problem: str, *, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}\n  → {self.fix}"


class UserError(BarnraiseError):
    exit_code = 2
    fault = "the command or a file"


class SpecError(UserError):
    pass


class InviteError(UserError):
    pass


class DatasetError(UserError):
    pass


class FolderInUse(UserError):
    pass


class MachineError(BarnraiseError):
    exit_code = 3
    fault = "this machine"


class DiskFull(MachineError):
    pass


class TooLargeForMemory(MachineError):
    pass


class ModelUnavailable(MachineError):
    pass


class NetworkError(BarnraiseError):
    exit_code = 4
    fault = "the network"


class Unreachable(NetworkError):
    pass


class TrustError(BarnraiseError):
    exit_code = 5
    fault = "whoever sent these bytes"


class WrongRunKey(TrustError):
    pass


class BadSignature(TrustError):
    pass


class HashMismatch(TrustError):
    pass


class MalformedBlob(TrustError):
    pass


class MalformedRecord(TrustError):
    pass


class RefusedError(BarnraiseError):
    exit_code = 6
    fault = "the coordinator's rules"


class StateError(BarnraiseError):
    exit_code = 7
    fault = "saved or shared state"
