"""Builds a run's data again where its shards are lost: they are the same bytes, or it is refused."""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.charter import Charter
from barnraise.contract.spec import RunSpec
from barnraise.core.errors import DatasetError
from barnraise.models.fetching import Limiter
from barnraise.rehearsal.outcomes import NotRehearsed, TooSlow
from coordinator.setup.prepare import prepare
from coordinator.setup.resolve import Progress


def rebuild_data(
    charter: Charter, spec: RunSpec, folder: Path, cache: Path, progress: Progress, limiter: Limiter
) -> None:
    """Tokenize and pack the data into `folder` as the charter pins it. spec: with its own paths.

    Raises DatasetError where the data, or what renders it, has changed since the run began.
    """
    pinned, packed = charter.spec, charter.spec.data.packing == "always"
    kernel = pinned.model.attention
    assert kernel != "auto", "a charter has it decided"
    decided = NotRehearsed(TooSlow(0.0), kernel, packed)
    asked = spec.model_copy(update={"model": spec.model.model_copy(update={"attention": kernel})})
    progress("the data is built again: its shards are not here")
    key, report = charter.authority_key, _but_rehearsal(progress)
    found = prepare(asked, key, folder, cache, report, lambda *_: decided, limiter)
    if found.charter.data_index != charter.data_index:
        raise DatasetError(
            "the data is not the one that the run began with: volunteers would not accept its shards",
            fix="Give the same files, or the same revisions, as when the run began. A backup of the folder"
            " has the shards.",
        )


def _but_rehearsal(progress: Progress) -> Progress:
    """Nothing is rehearsed: the run began."""
    return lambda line: None if line.startswith("rehears") else progress(line)
