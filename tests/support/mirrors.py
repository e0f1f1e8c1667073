"""Mirrors that tests publish to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordinator.publishing.command import PublishOptions, publish
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import archive, opened_store, train_round
from tests.support.parts import ADA, BEN


@contextmanager
def trained(folder: Path) -> Iterator[RunStore]:
    """A run that keeps one checkpoint in addition to those that it needs, and has trained two rounds."""
    spec = parts.run_spec()
    kept = spec.checkpoint.model_copy(update={"keep": 1})
    with opened_store(folder, spec.model_copy(update={"checkpoint": kept})) as made:
        train_round(made, ADA, BEN, loss=2.0)
        train_round(made, ADA, loss=1.5)
        yield made


def options(to: str | Path, **other: Any) -> PublishOptions:
    fields: dict[str, Any] = {"forms": (), "revision": None, "prune": False, "dry": False}
    return PublishOptions(to=str(to), **fields | other)


def sent(store: RunStore, to: str | Path, **other: Any) -> list[str]:
    lines: list[str] = []
    publish(archive(store), options(to, **other), lines.append)
    return lines


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
