"""The index of a state: what its hash is the SHA-256 of, so that a state can be fetched by its hash alone.

The index lists the step and, of each tensor, its name, shape and the SHA-256 of its values (fp32,
little-endian). It is a blob whose name is the state's hash, and each tensor is a blob whose name is in the
index. The log names states (`base_state` of a close), so a program that has the log can fetch a state from
any holder: neither a manifest nor a signature is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from barnraise.contract.state import Array, Layout, TrainState, index_bytes
from barnraise.core.errors import MalformedBlob
from barnraise.core.ids import BlobHash, StateHash, blob_hash, short
from barnraise.core.strict import Hex64

MAX_STATE_INDEX_BYTES = 2**24
"""Room for some 80,000 tensors."""
PARAMS = "params"
"""The group of the trainable tensors; the others are buffers of the outer optimizer."""

_Line = tuple[str, tuple[Annotated[int, Field(ge=0)], ...], Hex64]
_INDEX: TypeAdapter[tuple[int, tuple[_Line, ...]]] = TypeAdapter(
    tuple[int, tuple[_Line, ...]], config=ConfigDict(strict=True)
)


@dataclass(frozen=True)
class WantedState:
    """A state to fetch, and what the charter says of every state of the run."""

    hash: StateHash
    step: int
    """Rounds that are folded into it."""
    layout: str
    """Digest of the run's `Layout`."""
    buffers: Collection[str]
    """Names of the outer optimizer's buffers at that step."""

    @property
    def index(self) -> BlobHash:
        """The blob of its index."""
        return BlobHash(self.hash)


@dataclass(frozen=True)
class StateTensor:
    """One line of an index."""

    group: str
    name: str
    shape: tuple[int, ...]
    blob: BlobHash

    @property
    def size(self) -> int:
        """Bytes of the blob."""
        return 4 * math.prod(self.shape)


def read_index(payload: bytes, wanted: WantedState) -> tuple[StateTensor, ...]:
    """The tensors of a state. Raises MalformedBlob unless they are those that the run's states have."""
    if blob_hash(payload) != wanted.index:
        raise _malformed(wanted, "it has another hash")
    try:
        step, lines = _INDEX.validate_json(payload)
    except ValidationError as invalid:
        raise _malformed(wanted, str(invalid.errors(include_url=False)[0]["msg"])) from None
    if step != wanted.step:
        raise _malformed(wanted, f"it is of step {step}, and step {wanted.step} was expected")
    tensors = tuple(
        StateTensor(*_split(name), shape=shape, blob=BlobHash(digest)) for name, shape, digest in lines
    )
    layout = Layout(tuple((each.name, each.shape) for each in tensors if each.group == PARAMS))
    expected = [(group, *entry) for group in (PARAMS, *sorted(wanted.buffers)) for entry in layout]
    found = [(each.group, each.name, each.shape) for each in tensors]
    if layout.digest() != wanted.layout or found != expected:
        raise _malformed(wanted, "its tensors are not those of the run")
    return tensors


def assemble(
    wanted: WantedState, tensors: Iterable[StateTensor], read: Callable[[BlobHash], bytes]
) -> TrainState:
    """The state, from its index and the blobs of its tensors.

    read: the bytes of a blob, whose hash it has checked. Raises MalformedBlob where values are not finite or
    a blob has another size than its shape, and what `read` raises.
    """
    groups: dict[str, dict[str, Array]] = {PARAMS: {}}
    for each in tensors:
        data = read(each.blob)
        if len(data) != each.size:
            raise _malformed(wanted, f"{each.name} has {len(data)} bytes instead of {each.size}")
        array = np.frombuffer(data, "<f4").astype(np.float32).reshape(each.shape)
        if not np.isfinite(array).all():
            raise _malformed(wanted, f"{each.name} has values that are not finite")
        groups.setdefault(each.group, {})[each.name] = array
    return TrainState(groups.pop(PARAMS), groups, wanted.step)


def index_of(step: int, tensors: Iterable[tuple[str, Sequence[int], str]]) -> bytes:
    """The index of a state from its tensors in any order: GROUP/NAME, shape and SHA-256 of each."""
    return index_bytes(step, sorted(tensors, key=lambda line: _rank(line[0])))


def _rank(full_name: str) -> tuple[bool, str, str]:
    group, name = _split(full_name)
    return group != PARAMS, group, name


def _split(full_name: str) -> tuple[str, str]:
    group, _, name = full_name.partition("/")
    return group, name


def _malformed(wanted: WantedState, why: str) -> MalformedBlob:
    return MalformedBlob(
        f"the state {short(wanted.hash)} of step {wanted.step} cannot be used: {why}",
        fix="It is dropped; another state that the log names is tried.",
    )
