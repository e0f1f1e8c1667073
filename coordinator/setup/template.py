"""`coordinator new`: a commented run.toml to start from, made from the docstrings of the run spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from barnraise.contract.spec import Full, Lora, RunSpec
from coordinator.setup.practice import MEAN, outer_step, starting_rate
from coordinator.setup.settings import Setting, Table, as_toml, tables_of

WIDTH = 110
"""Columns of the file; a comment that does not fit behind its setting is on the line above."""
_COMMENT_COLUMN = 30

_HEAD = """\
# {name}: a Barnraise run. `coordinator check run.toml` validates it and estimates what it needs;
# `coordinator serve run.toml` starts it and prints the invite for volunteers. Nothing here can change
# once the run has started: every volunteer pins it.
# A setting behind "# " has that value by default; remove the "# " to change it. The value of a setting
# marked (unset) is an example. docs/CONFIGURATION.md describes every setting.
"""

DEFAULT_WIDTH = 576
"""Of SmolLM2-135M, the default model."""


def starting_settings(name: str, target: Lora | Full, volunteers: int) -> dict[str, object]:
    """Settings that are set in a new file: required ones, and those that suit target and volunteers."""
    step = outer_step(target, volunteers)
    momentum = {"outer.lr": step.lr, "outer.momentum": step.momentum, "outer.nesterov": step.nesterov}
    return {
        "name": name,
        "model.licence": "apache-2.0",  # of the default model
        "data.source": "data.jsonl",
        "train.target.kind": target.kind,
        "train.inner.lr": starting_rate(target, DEFAULT_WIDTH, volunteers),
        "round.grace": 60,
        **({} if step == MEAN else momentum),
    }


def template(name: str, target: Lora | Full, volunteers: int) -> str:
    """A run.toml for a run called `name`. volunteers: how many are expected."""
    starting = starting_settings(name, target, volunteers)
    tables = [
        table
        for _, same in groupby(tables_of(RunSpec), lambda table: table.path)
        for table in sorted(same, key=lambda table: not _is_set(table, starting))
    ]
    return _HEAD.format(name=name) + "".join(
        f"{line}\n" for table in tables for line in _table(table, starting)
    )


def _is_set(table: Table, starting: Mapping[str, object]) -> bool:
    """Whether the file has this variant of a table, rather than as a comment."""
    kind = starting.get(f"{table.path}.kind")
    return table.chosen if kind is None else table.kind == kind


def _table(table: Table, starting: Mapping[str, object]) -> Iterator[str]:
    about = table.about.partition("\n")[0]
    if not _is_set(table, starting):
        start = f"[[{table.path}]]" if table.array else f'kind = "{table.kind}"'
        yield from _line(f"# Instead: {start}", about)
        for setting in table.settings:
            value = setting.default or setting.example
            yield from _line(f"#   {setting.name} = {value}", _comment(setting, value))
        return
    yield ""
    if table.path:
        yield from _line(f"[{table.path}]", "" if table.kind else about)
    if table.kind is not None:
        yield from _line(f'kind = "{table.kind}"', about)
    for setting in table.settings:
        yield from _setting(table.path, setting, starting)


def _setting(path: str, setting: Setting, starting: Mapping[str, object]) -> Iterator[str]:
    full = f"{path}.{setting.name}" if path else setting.name
    if full in starting:
        value = as_toml(starting[full])
        yield from _line(f"{setting.name} = {value}", _comment(setting, value))
    elif setting.default is not None:
        yield from _line(f"# {setting.name} = {setting.default}", _comment(setting, setting.default))
    else:
        comment = f"(unset) {_comment(setting, setting.example)}"
        yield from _line(f"# {setting.name} = {setting.example}", comment)


def _comment(setting: Setting, value: str | None) -> str:
    others = [choice for choice in setting.choices if choice != value]
    return f"(or {', '.join(others)}) {setting.summary}" if others else setting.summary


def _line(text: str, comment: str) -> Iterator[str]:
    """`text` with a comment behind it, or above it where both do not fit on a line."""
    both = f"{text.ljust(_COMMENT_COLUMN)} # {comment}"
    if not comment:
        yield text
    elif len(both) <= WIDTH:
        yield both
    else:
        yield f"# {comment}"
        yield text
