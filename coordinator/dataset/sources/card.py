"""What the front matter of a dataset's card (README.md) says about its files. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from barnraise.core.errors import DatasetError

_OF_A_CARD = frozenset(("configs", "dataset_info", "task_categories", "size_categories", "pretty_name"))
DEFAULT = "default"


@dataclass(frozen=True)
class CardConfig:
    """One configuration: files by split."""

    name: str
    is_default: bool
    folder: str
    """Folder of its files, with a slash at the end; empty for the whole dataset."""
    patterns: tuple[tuple[str, str], ...]
    """(split, pattern of paths); empty where the names of the files distinguish the splits."""


def is_card(fields: Mapping[str, Any]) -> bool:
    """Whether the front matter is that of a dataset's card, not of a page in a folder of notes."""
    return bool(_OF_A_CARD & fields.keys())


def card_configs(fields: Mapping[str, Any], where: str) -> tuple[CardConfig, ...]:
    """The configurations that a card lists. Raises DatasetError for a card that is malformed."""
    configs = fields.get("configs") or []
    if not isinstance(configs, list) or not all(isinstance(each, Mapping) for each in configs):
        raise _malformed(where)
    return tuple(_config(each, where) for each in configs)


def choose_config(configs: tuple[CardConfig, ...], wanted: str | None, where: str) -> CardConfig:
    """The requested configuration, or the default. Raises DatasetError, which lists those there are."""
    names = ", ".join(each.name for each in configs)
    if wanted is not None:
        found = [each for each in configs if each.name == wanted]
        if not found:
            raise missing_config(where, wanted, names)
        return found[0]
    default = [each for each in configs if each.is_default or each.name == DEFAULT]
    if len(configs) > 1 and not default:
        raise DatasetError(
            f"{where} has several configurations, and none is the default: {names}",
            fix=f'Choose one in run.toml, next to `source`: `config = "{configs[0].name}"`.',
        )
    return (default or list(configs))[0]


def missing_config(where: str, wanted: str, names: str) -> DatasetError:
    """names: the configurations there are; empty for none."""
    return DatasetError(
        f"{where} has no configuration `{wanted}`; it has: {names or 'none'}",
        fix="Correct `config`, next to `source` in run.toml." if names else "Remove `config` from run.toml.",
    )


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern of a card, such as `data/**/train-*.parquet`, names the file or a folder above it."""
    pattern = pattern.removeprefix("./").strip("/")
    return re.fullmatch(_expression(pattern) + "(/.*)?", name) is not None


def _config(fields: Mapping[str, Any], where: str) -> CardConfig:
    folder = str(fields.get("data_dir") or "").removeprefix("./").strip("/")
    return CardConfig(
        name=str(fields.get("config_name", DEFAULT)),
        is_default=fields.get("default") is True,
        folder=f"{folder}/" if folder else "",
        patterns=tuple(_patterns(fields.get("data_files"), where)),
    )


def _patterns(files: Any, where: str, split: str = "train") -> Iterator[tuple[str, str]]:
    if isinstance(files, str):
        yield split, files
    elif isinstance(files, list):
        for each in files:
            yield from _patterns(each, where, split)
    elif isinstance(files, Mapping) and "path" in files:
        yield from _patterns(files["path"], where, str(files.get("split", split)))
    elif isinstance(files, Mapping):
        for name, paths in files.items():
            yield from _patterns(paths, where, str(name))
    elif files is not None:
        raise _malformed(where)


def _malformed(where: str) -> DatasetError:
    return DatasetError(
        f"the `configs` at the start of {where}'s README.md are malformed",
        fix="Write each as `config_name` and `data_files`, as the Hub documents it, or remove them.",
    )


_WILD = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]/]+\]|\{[^}]*\}")


def _expression(pattern: str) -> str:
    """A glob as a regular expression."""
    parts, at = [], 0
    for wild in _WILD.finditer(pattern):
        parts += [re.escape(pattern[at : wild.start()]), _wild(wild[0])]
        at = wild.end()
    return "".join([*parts, re.escape(pattern[at:])])


def _wild(wild: str) -> str:
    fixed = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if wild in fixed:
        return fixed[wild]
    if wild.startswith("{"):
        return f"(?:{'|'.join(re.escape(each) for each in wild[1:-1].split(','))})"
    inner = wild[1:-1].replace("\\", "\\\\")
    return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
