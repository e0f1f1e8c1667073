"""Resolves a run spec against its model and data: all that `check` and `serve` do before a run can start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.shards import parse_shard
from barnraise.contract.spec import Full, Lora, RunSpec
from barnraise.core.errors import ModelMissing, ModelUnavailable, ModelUnusable, SpecError, UserError
from barnraise.core.ids import BlobHash
from barnraise.models.base_model import BaseFolder, pin_revision, resolve
from barnraise.models.base_sources import is_local
from barnraise.models.fetching import NO_LIMIT, Limiter
from barnraise.models.merge import check_mergeable
from barnraise.models.trainable import layout
from barnraise.rehearsal.known_kinds import by_kind
from barnraise.rehearsal.opening import open_model
from barnraise.rehearsal.outcomes import Rehearsal
from barnraise.rehearsal.runner import LIMITS, rehearse
from barnraise.rehearsal.samples import RehearsalSamples
from coordinator.dataset.build import build
from coordinator.dataset.shard_writer import Put
from coordinator.dataset.sources.read import find_data
from coordinator.messages.dataset import build_step
from coordinator.reasons.dataset import BuiltDataset
from coordinator.setup.check_forms import check_forms

Progress = Callable[[str], None]
Rehearse = Callable[[RunSpec, Path, RehearsalSamples], Rehearsal]
"""As `barnraise.rehearsal.runner.rehearse`."""


@dataclass(frozen=True)
class ResolvedRun:
    """A run that can start."""

    spec: RunSpec
    """With the commits of model and data, the attention kernel and the packing decided."""
    base: BaseFolder
    dataset: BuiltDataset
    rehearsal: Rehearsal


def resolve_run(
    spec: RunSpec,
    cache: Path,
    put: Put,
    progress: Progress,
    rehearse: Rehearse = rehearse,
    limiter: Limiter = NO_LIMIT,
) -> ResolvedRun:
    """Get the base model, open it, build the dataset, and rehearse one step on its first shard.

    put: gets the bytes of every shard. limiter: limits the download of the base model.
    Raises SpecError, ModelUnusable, ModelUnavailable, DatasetError, DiskFull.
    """
    spec, base = _open(spec, cache, progress, limiter)

    def rehearsing(run: RunSpec, folder: Path, samples: RehearsalSamples) -> Rehearsal:
        progress(f"rehearsing one step on the first samples; at most {LIMITS.seconds / 60:.0f} minutes")
        return rehearse(run, folder, samples)

    guess = by_kind(base.path).packed
    try:
        return _built(spec, base, put, progress, rehearsing, packed=_packed(spec, guess=guess))
    except _OtherPacking as other:
        progress(f"packing again: {'several documents' if other.packed else 'one document'} in a sample")
        known = other.rehearsal
    return _built(spec, base, put, progress, lambda *_: known, packed=known.packed)


def _open(spec: RunSpec, cache: Path, progress: Progress, limiter: Limiter) -> tuple[RunSpec, BaseFolder]:
    source = spec.model.source
    try:
        revision = pin_revision(source, spec.model.revision, cache)
        base = resolve(source, revision, cache, progress=progress, limiter=limiter)
    except ModelUnavailable as error:
        if not (is_local(source) or isinstance(error, ModelMissing)):
            raise
        raise ModelUnusable(f"model.source: {error.problem}", fix=error.fix) from error
    model = spec.model.model_copy(update={"revision": revision})
    spec = spec.model_copy(update={"model": model, "data": find_data(spec.data)})
    progress(f"opening the base model in {base.path}")
    try:
        _check_files(spec, base.path, progress)
    except ModelUnavailable as error:  # its files are here, so they are at fault
        raise ModelUnusable(error.problem, fix=error.fix) from error
    return spec, base


def _check_files(spec: RunSpec, folder: Path, progress: Progress) -> None:
    if unused := open_model(folder).unused:
        more = ", …" if len(unused) > 3 else ""
        progress(f"its config has no use for {len(unused)} tensors: {', '.join(unused[:3])}{more}")
    check_forms(spec, folder)
    _check_target(folder, spec.train.target)


def _check_target(folder: Path, target: Lora | Full) -> None:
    """Raises SpecError where the target does not fit the model, or a checkpoint could not be merged."""
    tensors = layout(folder, target)
    if isinstance(target, Lora):
        try:
            check_mergeable(folder, target, tensors)
        except SpecError:
            raise
        except UserError as error:
            raise SpecError(f"train.target.modules: {error.problem}", fix=error.fix) from error


class _OtherPacking(Exception):
    """The rehearsal found that samples must be packed otherwise than they are."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        super().__init__(rehearsal)
        self.rehearsal = rehearsal
        self.packed = rehearsal.packed


@dataclass
class _RehearsingPut:
    """Stores shards, and rehearses on the first: a run that cannot train ends before all data is read."""

    put: Put
    rehearse: Callable[[bytes], Rehearsal]
    packed: bool
    """How the shards are packed."""
    outcomes: list[Rehearsal] = field(default_factory=list)

    def __call__(self, data: bytes) -> BlobHash:
        name = self.put(data)
        if not self.outcomes:
            self.outcomes.append(self.rehearse(data))
            if self.outcomes[0].packed != self.packed:
                raise _OtherPacking(self.outcomes[0])
        return name


def _built(
    spec: RunSpec, base: BaseFolder, put: Put, progress: Progress, rehearse: Rehearse, *, packed: bool
) -> ResolvedRun:
    def on_shard(data: bytes) -> Rehearsal:
        shard = parse_shard(data, spec.data.sequence_length, None)
        return rehearse(spec, base.path, RehearsalSamples.of(shard))

    storing = _RehearsingPut(put, on_shard, packed)
    packing = spec.data.model_copy(update={"packing": "always" if packed else "never"})
    built = build(
        spec.model_copy(update={"data": packing}), base.path, storing, lambda step: progress(build_step(step))
    )
    rehearsal = storing.outcomes[0]
    return ResolvedRun(_decided(spec, rehearsal), base, built, rehearsal)


def _packed(spec: RunSpec, *, guess: bool) -> bool:
    return guess if spec.data.packing == "auto" else spec.data.packing == "always"


def _decided(spec: RunSpec, rehearsal: Rehearsal) -> RunSpec:
    """`spec` with what the rehearsal decided in the place of `auto`."""
    return spec.model_copy(
        update={
            "model": spec.model.model_copy(update={"attention": rehearsal.attention}),
            "data": spec.data.model_copy(update={"packing": "always" if rehearsal.packed else "never"}),
        }
    )
