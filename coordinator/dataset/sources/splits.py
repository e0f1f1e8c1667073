"""Distinguishes the splits of a dataset by the names of its files, as the Hub's `datasets` does. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from coordinator.dataset.sources.kinds import base_name, holds_text, kind_of

TRAIN = "train"
_KEYWORDS = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_SHARD = re.compile(r"^(?P<split>\w+(\.\w+)*)-\d{5}-of-\d{5}")
_SEPARATORS = re.compile(r"[-._ 0-9]+")


def wanted_splits(setting: str) -> list[str]:
    """The splits that `split` in run.toml names: one, or several with `+` between them."""
    return [each.strip() for each in setting.split("+")]


def split_called(name: str, wanted: Sequence[str]) -> str | None:
    """The split that a list in a JSON file is, by its name; None for a name of another meaning."""
    return name if name in wanted else _KEYWORDS.get(name.lower())


def splits_of(names: list[str], wanted: list[str]) -> dict[str, str]:
    """The split of each file; empty for a file without one next to files that are called `train`.

    wanted: the splits to train on; a file or folder of exactly that name belongs to it.
    """
    found = {name: _split_of(name, wanted) for name in names}
    if TRAIN in found.values():
        return {name: split or "" for name, split in found.items()}
    if all(holds_text(kind_of(name)) for name in names) and TRAIN in wanted:
        return dict.fromkeys(names, TRAIN)  # notes, one of which is called `test.md`
    return {name: split or TRAIN for name, split in found.items()}


def _split_of(name: str, wanted: list[str]) -> str | None:
    folders, base = PurePosixPath(name).parent.parts[::-1], base_name(name)
    shard = _SHARD.match(base)
    stem = shard["split"] if shard else base
    exact = next((each for each in (stem, *folders) if each in wanted), None)
    if exact is not None:
        return exact
    if shard and folders[:1] == ("data",):
        return stem
    # A word in the name of a document is part of its title.
    keyword = _whole if holds_text(kind_of(name)) else _word
    return next(filter(None, map(keyword, (*folders, base))), None)


def _word(name: str) -> str | None:
    """The split that a word of the name says."""
    return next((_KEYWORDS[word] for word in _SEPARATORS.split(name.lower()) if word in _KEYWORDS), None)


def _whole(name: str) -> str | None:
    """The split that the name is, apart from a number."""
    return _KEYWORDS.get(_SEPARATORS.sub("", name.lower().replace("-of-", "")))
