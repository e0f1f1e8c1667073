"""`coordinator new`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from barnraise.core.errors import SpecError, UserError
from barnraise.core.ids import RUN_PATTERN
from barnraise.runtime.console import plain_errors, say
from barnraise.runtime.files import write_atomic


@click.command()
@click.argument("name")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("run.toml"),
    show_default=True,
    help="File to write. An existing file is never overwritten.",
)
@plain_errors
def new(name: str, output: Path) -> None:
    """Write a commented run.toml for a run called NAME.

    NAME: lower-case letters, digits and hyphens, at most 40, a letter or digit first.
    """
    from coordinator.setup.template import template

    if not re.fullmatch(RUN_PATTERN, name):
        raise SpecError(
            f"{name!r} cannot be a run's name",
            fix="Use lower-case letters, digits and hyphens, at most 40, a letter or digit first.",
        )
    if output.exists():
        raise UserError(f"{output} exists already", fix="Choose another file with --output, or remove it.")
    write_atomic(output, template(name).encode())
    say(f"wrote {output}: set the model and the data, then `coordinator check {output}`")
