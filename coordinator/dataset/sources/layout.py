"""Decides which files of a folder, or of a Hub dataset, are trained on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from barnraise.core.errors import DatasetError
from coordinator.dataset.sources.card import (
    CardConfig,
    card_configs,
    choose_config,
    is_card,
    matches,
    missing_config,
)
from coordinator.dataset.sources.kinds import ARCHIVES, holds_text, kind_of, known_suffixes
from coordinator.dataset.sources.splits import splits_of, wanted_splits
from coordinator.reasons.source_files import (
    DescribesData,
    HiddenFile,
    NoSplit,
    OtherConfig,
    OtherSplit,
    SkipReason,
    UnknownKind,
)

_LEGAL = re.compile(
    r"(licen[cs]e|copying|copyright|notice|unlicense)([-_.](apache|mit|bsd|l?gpl|mpl|cc|odc|code|data|\d).*)?"
)
_DOCUMENTATION = re.compile(
    r"(readme|changelog|contributing|code_of_conduct|security|citation|authors|datasheet|requirements)"
    r"([-_.][a-z]{2}([-_][a-z]{2,4})?)?"
)
"""Documents of a repository: data only where nothing else is."""
_OF_A_REPOSITORY = (".py", *ARCHIVES)
"""Of the files with which datasets are loaded that have no rows to read."""
_METADATA = frozenset(
    ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "croissant.json")
)


@dataclass(frozen=True)
class Request:
    """What to take of a dataset."""

    where: str
    """Folder or Hub name, for messages."""
    config: str | None = None
    split: str = "train"

    @property
    def splits(self) -> list[str]:
        return wanted_splits(self.split)


@dataclass
class Layout:
    """The files to train on, in order, and why others are not."""

    taken: list[str] = field(default_factory=list)
    skipped: dict[str, SkipReason] = field(default_factory=dict)

    def keep(self, reasons: Mapping[str, SkipReason | None]) -> None:
        """Skip each taken file that has a reason."""
        self.skipped.update({name: reason for name, reason in reasons.items() if reason is not None})
        self.taken = [name for name in self.taken if reasons.get(name) is None]


def plan(names: Iterable[str], card: Mapping[str, Any] | None, request: Request) -> Layout:
    """names: paths in the dataset, with `/`. card: the front matter of its README.md, if it has any.

    Raises DatasetError where there is no such configuration or split, which lists those there are, and where
    nothing is left.
    """
    layout = Layout(sorted(names, key=lambda name: PurePosixPath(name).parts))
    layout.keep({name: _hidden(name) for name in layout.taken})
    layout.keep(_descriptions(layout.taken, has_card=card is not None and is_card(card)))
    layout.keep({name: _unknown(name) for name in layout.taken})
    if not layout.taken:
        raise DatasetError(
            f"{request.where} holds no file to train on: none of {known_suffixes()}",
            fix="Put files of those kinds there.",
        )
    configs = card_configs(card or {}, request.where)
    if configs:
        _take_config(layout, configs, choose_config(configs, request.config, request.where), request)
    else:
        if request.config is not None:
            _take_folder(layout, request.config, request)
        _take_splits(layout, splits_of(layout.taken, request.splits), request)
    return layout


def _hidden(name: str) -> SkipReason | None:
    hidden = any(part.startswith((".", "__")) for part in PurePosixPath(name).parts)
    return HiddenFile() if hidden else None


def _unknown(name: str) -> SkipReason | None:
    return None if kind_of(name) else UnknownKind(PurePosixPath(name).suffix.lower())


def _descriptions(names: list[str], *, has_card: bool) -> dict[str, SkipReason | None]:
    has_rows = any(kind_of(name) and not holds_text(kind_of(name)) for name in names)
    in_repository = has_card or has_rows or any(name.lower().endswith(_OF_A_REPOSITORY) for name in names)
    return {name: DescribesData() if _describes(name, in_repository) else None for name in names}


def _describes(name: str, in_repository: bool) -> bool:
    path = PurePosixPath(name.lower())
    if path.name in _METADATA:
        return True
    text = holds_text(kind_of(name))
    title = path.stem if text else path.name
    if not text and kind_of(name):
        return False
    return bool(_LEGAL.fullmatch(title) or (in_repository and _DOCUMENTATION.fullmatch(title)))


def _take_config(
    layout: Layout, configs: tuple[CardConfig, ...], config: CardConfig, request: Request
) -> None:
    inside = {name: _other_config(name, config, configs) for name in layout.taken}
    layout.keep(inside)
    if not layout.taken:
        raise DatasetError(
            f"{request.where} has no file of its configuration `{config.name}`",
            fix="Correct `data_files` at the start of its README.md, or choose another `config` in run.toml.",
        )
    if config.patterns:
        splits = {
            name: next(split for split, pattern in config.patterns if _is_at(name, config, pattern))
            for name in layout.taken
        }
    else:
        splits = splits_of(layout.taken, request.splits)
    _take_splits(layout, splits, request)


def _other_config(name: str, config: CardConfig, configs: tuple[CardConfig, ...]) -> SkipReason | None:
    if _holds(config, name):
        return None
    return OtherConfig(next((each.name for each in configs if _holds(each, name)), ""))


def _holds(config: CardConfig, name: str) -> bool:
    if not config.patterns:
        return name.startswith(config.folder)
    return any(_is_at(name, config, pattern) for _, pattern in config.patterns)


def _is_at(name: str, config: CardConfig, pattern: str) -> bool:
    return name.startswith(config.folder) and matches(name[len(config.folder) :], pattern)


def _take_folder(layout: Layout, config: str, request: Request) -> None:
    """Without a card that lists configurations, the folders at the top are taken for them."""
    folders = {name: name.partition("/")[0] for name in layout.taken if "/" in name}
    if config not in folders.values():
        raise missing_config(request.where, config, ", ".join(sorted(set(folders.values()))))
    others = {
        name: OtherConfig(folders.get(name, "")) for name in layout.taken if folders.get(name) != config
    }
    layout.keep(others)


def _take_splits(layout: Layout, splits: Mapping[str, str], request: Request) -> None:
    found = list(dict.fromkeys(filter(None, splits.values())))
    for wanted in request.splits:
        if wanted not in found:
            raise DatasetError(
                f"{request.where} has no split `{wanted}`; it has: {', '.join(found) or 'none'}",
                fix="Set `split`, next to `source` in run.toml"
                + (f', such as `split = "{found[0]}"`.' if found else "."),
            )
    layout.keep({name: None if split in request.splits else _not_in(split) for name, split in splits.items()})


def _not_in(split: str) -> SkipReason:
    return OtherSplit(split) if split else NoSplit()
