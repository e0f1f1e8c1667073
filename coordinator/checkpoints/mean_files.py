"""The mean of the newest checkpoints' states, as the files of a checkpoint.

The mean is made tensor by tensor from the checkpoints' files, so it needs the memory of one file of weights.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from barnraise.contract.evaluations import EVALUATIONS
from barnraise.contract.manifest import AveragedState, HeldOut, Manifest
from barnraise.contract.run_keys import Successors
from barnraise.contract.state import Array, index_bytes, tensor_digest
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, StateHash
from barnraise.core.signed import Signed, sign
from barnraise.fold.averaging import each_mean
from barnraise.models.checkpoint_files import OUTER_STATE
from barnraise.models.lora_files import ADAPTER
from barnraise.models.model_files import write_model
from barnraise.runtime.blob_store import BlobStore, has_hash
from barnraise.runtime.files import disk_errors, link_or_copy, write_atomic
from coordinator.checkpoints.card import CARD, CURVE
from coordinator.reasons.checkpoints import StateUnreadable
from coordinator.store.checkpoints import entries, save_tensors
from coordinator.store.run_state import RunState

SHOWN = (CARD, CURVE, EVALUATIONS)
"""Files about one checkpoint alone."""
WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class LinkedState:
    """A checkpoint's state, in files that stay when the checkpoint is dropped."""

    manifest: Manifest
    folder: Path

    @property
    def files(self) -> Mapping[Path, str]:
        """Those of the parameters, with the hash that the manifest names."""
        return {
            self.folder / entry.name: entry.hash
            for entry in self.manifest.files
            if entry.name.endswith(WEIGHTS) and entry.name != OUTER_STATE
        }


@dataclass(frozen=True)
class Mean:
    """A mean of states, whose files are in a folder."""

    manifest: Manifest
    """Without the final list of files, and not signed."""
    folder: Path

    @property
    def rounds(self) -> tuple[int, ...]:
        """Of its states."""
        return tuple(each.round for each in self.manifest.mean_of)


def averaged_rounds(run: RunState, round: int) -> tuple[int, ...]:
    """Rounds of the checkpoints whose mean is tried next to the checkpoint of `round`, oldest first: pure.

    None where they are fewer than two. States that a rollback made void are not among them, nor state[0].
    """
    count = max(run.spec.checkpoint.averaged, 1)
    rounds = [at for at in run.in_force(run.checkpoints) if 0 < at <= round][-count:]
    return tuple(rounds) if len(rounds) > 1 and rounds[-1] == round else ()


def link_states(run: RunState, rounds: Sequence[int], blobs: BlobStore, work: Path) -> list[LinkedState]:
    """Link the files of these states into `work`, without those that are lost. Raises DiskFull."""
    states = [LinkedState(run.checkpoints[at].value, work / f"state-{at}") for at in rounds]
    with disk_errors(work):
        for state in states:
            state.folder.mkdir()
            for path, name in state.files.items():
                if BlobHash(name) in blobs:
                    link_or_copy(blobs.path(BlobHash(name)), path)
    return states


def write_mean(states: Sequence[LinkedState], blobs: BlobStore, folder: Path) -> Mean | StateUnreadable:
    """Write the mean of `states` into a new folder, with the other files of the newest. Slow.

    states: oldest first. Raises DiskFull.
    """
    newest = states[-1].manifest
    for state in states:
        for path, name in state.files.items():
            if not has_hash(path, BlobHash(name)):
                return StateUnreadable(state.manifest.round, path.name)
    with disk_errors(folder):
        folder.mkdir()
        for entry in newest.files:
            if not entry.name.endswith(WEIGHTS) and entry.name not in SHOWN:
                link_or_copy(blobs.path(BlobHash(entry.hash)), folder / entry.name)
        found = _write_weights(states, folder)
    named = tuple(AveragedState(round=each.manifest.round, state=each.manifest.state) for each in states)
    return Mean(newest.model_copy(update={"state": found, "mean_of": named, "held_out": None}), folder)


def keep_mean(
    mean: Mean,
    held_out: HeldOut,
    card_files: Mapping[str, bytes],
    successors: Successors,
    authority: Identity,
    blobs: BlobStore,
) -> Signed[Manifest]:
    """Put the files of a mean and its manifest into `blobs`. card_files, successors: as of
    `coordinator.store.checkpoints.published_manifest`. Raises DiskFull.
    """
    for name, data in card_files.items():
        write_atomic(mean.folder / name, data)
    update = {"held_out": held_out, "files": entries(mean.folder, blobs), "successors": successors}
    signed = sign(authority, mean.manifest.model_copy(update=update))
    blobs.put(signed.wire)
    return signed


def _write_weights(states: Sequence[LinkedState], folder: Path) -> StateHash:
    """The hash of the mean of the states. Raises OSError."""
    with ExitStack() as stack:
        readers = [_reader(state, stack) for state in states]
        shapes, reads = readers[-1][0], [read for _, read in readers]
        digests: dict[str, str] = {}

        def save(names: Sequence[str], path: Path) -> None:
            tensors = dict(each_mean(names, reads))
            digests.update((name, tensor_digest(array)) for name, array in tensors.items())
            save_tensors(tensors, path)

        if (states[-1].folder / ADAPTER).is_file():
            save(sorted(shapes), folder / ADAPTER)
        else:
            write_model(folder, {name: 4 * math.prod(shape) for name, shape in shapes.items()}, save)
    lines = ((f"params/{name}", shapes[name], digests[name]) for name in sorted(shapes))
    return StateHash(hashlib.sha256(index_bytes(states[-1].manifest.step, lines)).hexdigest())


def _reader(
    state: LinkedState, stack: ExitStack
) -> tuple[dict[str, tuple[int, ...]], Callable[[str], Array]]:
    """The shapes of a state's tensors, and what reads the one of a name."""
    shapes: dict[str, tuple[int, ...]] = {}
    files: dict[str, Any] = {}
    for path in state.files:
        file = stack.enter_context(safe_open(path, framework="np"))
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            files[name], shapes[name] = file, tuple(file.get_slice(name).get_shape())

    def read(name: str) -> Array:
        array: Array = files[name].get_tensor(name)
        return array

    return shapes, read
