"""The outcomes of a benchmark in a file, so that what is finished is not run again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from barnraise.runtime.files import write_atomic

T = TypeVar("T")


@dataclass
class ResultsFile(Generic[T]):
    """The outcomes so far, written to disk after each."""

    path: Path
    done: dict[str, T]
    _adapter: TypeAdapter[T]

    @classmethod
    def open(cls, path: Path, outcome: type[T]) -> ResultsFile[T]:
        """outcome: a dataclass."""
        adapter = TypeAdapter(outcome)
        saved = json.loads(path.read_text()) if path.exists() else {}
        return cls(path, {name: adapter.validate_python(one) for name, one in saved.items()}, adapter)

    def add(self, name: str, outcome: T) -> None:
        self.done[name] = outcome
        saved = {name: self._adapter.dump_python(one) for name, one in self.done.items()}
        write_atomic(self.path, json.dumps(saved, indent=1).encode())
