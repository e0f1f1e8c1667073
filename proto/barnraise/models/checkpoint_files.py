"""Reads the training state from a checkpoint's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from barnraise.contract.manifest import Manifest
from barnraise.contract.standing import MAX_STANDINGS_BYTES, STANDINGS_FILE, read_standings
from barnraise.contract.state import Array, Layout, TrainState
from barnraise.contract.tip import Tip
from barnraise.core.errors import MalformedBlob, StateError
from barnraise.core.ids import BlobHash, short

OUTER_STATE = "outer_state.safetensors"
"""The outer optimizer's buffers, named BUFFER/TENSOR."""
HEADER_BYTES = 1024
"""Of a tensor and of a file, in the header of a safetensors file: its name, dtype, shape and place."""


def read_state(manifest: Manifest, layout_digest: str, path_of: Callable[[BlobHash], Path]) -> TrainState:
    """state[manifest.round], from files that `path_of` finds by their hash.

    Raises MalformedBlob for files that are not safetensors, StateError where the state has another hash
    than the manifest says.
    """
    params: dict[str, Array] = {}
    buffers: dict[str, dict[str, Array]] = {}
    for entry in manifest.files:
        if not entry.name.endswith(".safetensors"):
            continue
        tensors = _load(path_of(BlobHash(entry.hash)), entry.name)
        if entry.name == OUTER_STATE:
            buffers = split_groups(tensors)
        else:
            params.update(tensors)
    state = TrainState(params=params, buffers=buffers, step=manifest.step)
    if Layout.of(params).digest() != layout_digest or state.hash() != manifest.state:
        raise StateError(
            f"the checkpoint of round {manifest.round} does not contain its state {short(manifest.state)}",
            fix="Remove the downloaded files and fetch them again.",
        )
    return state


def check_sizes(manifest: Manifest, layout: Layout, buffers: int) -> None:
    """Refuse files that are larger than those of a state, before they are fetched. Raises StateError.

    layout: of the run's states. buffers: of its outer optimizer at most.
    """
    count = (1 + buffers) * len(layout)
    most = 4 * (1 + buffers) * layout.parameters + HEADER_BYTES * (count + len(manifest.files))
    tensors = sum(entry.size for entry in manifest.files if entry.name.endswith(".safetensors"))
    lists = max((entry.size for entry in manifest.files if entry.name == STANDINGS_FILE), default=0)
    if tensors > most or lists > MAX_STANDINGS_BYTES:
        raise StateError(
            f"the checkpoint of round {manifest.round} has {tensors} bytes of tensors and {lists} of"
            f" standings, where a state of the run has at most {most} and {MAX_STANDINGS_BYTES}",
            fix="It is not fetched. Another checkpoint, or a state that the log names, is taken.",
        )


def read_tip(manifest: Manifest, path_of: Callable[[BlobHash], Path]) -> Tip:
    """The place of the state in the log. path_of: as for `read_state`. Raises MalformedRecord."""
    name = manifest.standings
    payload = b"" if name is None else path_of(BlobHash(name)).read_bytes()
    return manifest.tip(read_standings(payload, name))


def split_groups(tensors: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """{"GROUP/NAME": array} to {"GROUP": {"NAME": array}}."""
    groups: dict[str, dict[str, Array]] = {}
    for key, array in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = array
    return groups


def join_groups(groups: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    """The inverse of `split_groups`."""
    return {f"{group}/{name}": array for group, tensors in groups.items() for name, array in tensors.items()}


def _load(path: Path, name: str) -> dict[str, Array]:
    try:
        tensors: dict[str, Array] = load_file(path)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise MalformedBlob(
            f"{name} is not a safetensors file: {error}", fix="Remove it and fetch it again."
        ) from None
    return tensors
