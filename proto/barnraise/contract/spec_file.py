"""Reading a run spec from `run.toml`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from barnraise.contract.spec import RunSpec
from barnraise.contract.synonyms import SYNONYMS
from barnraise.core.errors import SpecError
from barnraise.core.strict import parse_table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse_spec(text: str, where: str = "run.toml") -> RunSpec:
    """Read a run spec from TOML. Raises SpecError, with the line or the key at fault."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(
            f"{where} is not valid TOML: {error}", fix=f"Correct that place in {where}."
        ) from None
    return parse_table(RunSpec, table, SpecError, where, SYNONYMS)


def read_spec(path: Path) -> RunSpec:
    """Read `path`. Relative paths of data, model and chat template are taken from the file's own folder."""
    try:
        text = _text(path.read_bytes(), path)
    except OSError as error:
        raise SpecError(
            f"cannot read {path}: {error.strerror or error}",
            fix="Write one with `coordinator new NAME`, or give its path.",
        ) from None
    spec = parse_spec(text, str(path))
    sources = (
        source.model_copy(update={"source": _data_next_to(path, source.source)})
        for source in spec.data.all_sources
    )
    template = spec.data.chat_template
    return spec.model_copy(
        update={
            "data": spec.data.with_sources(tuple(sources)).model_copy(
                update={"chat_template": template and _next_to(path, template)}
            ),
            "model": spec.model.model_copy(update={"source": _next_to(path, spec.model.source)}),
        }
    )


def _text(data: bytes, path: Path) -> str:
    """Raises SpecError, with the line, for what is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"{path}, line {line}: not UTF-8 (the byte 0x{data[error.start]:02x})",
            fix="Save the file as UTF-8 in your editor.",
        ) from None


def _next_to(spec_path: Path, source: str) -> str:
    try:
        candidate = spec_path.parent / Path(source).expanduser()
        return str(candidate.resolve()) if ":" not in source and candidate.exists() else source
    except (OSError, RuntimeError, ValueError):  # no such user, a name that is too long, a NUL
        return source


def _data_next_to(spec_path: Path, source: str) -> str:
    """As `_next_to`; so is a path that does not exist, unless it may be a name on the Hub."""
    found = _next_to(spec_path, source)
    if found != source or ":" in source or source.startswith("~"):
        return found
    path = spec_path.parent / source
    return str(path.absolute()) if "/" not in source or os.path.isdir(path.parent) else source
