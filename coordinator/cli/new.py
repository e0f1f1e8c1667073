"""`coordinator new`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from barnraise.core.errors import SpecError, UserError
from barnraise.core.ids import RUN_PATTERN
from barnraise.runtime.console import plain_errors, say
from barnraise.runtime.files import write_atomic
from coordinator.cli.options import VOLUNTEERS


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
@click.option(
    "--target",
    type=click.Choice(["lora", "full"]),
    default="lora",
    show_default=True,
    help="Train an adapter, or all parameters of the model.",
)
@click.option(
    "--volunteers",
    type=click.IntRange(min=1),
    default=VOLUNTEERS,
    show_default=True,
    help="How many you expect: the outer step depends on it.",
)
@plain_errors
def new(name: str, output: Path, target: str, volunteers: int) -> None:
    """Write a commented run.toml for a run called NAME.

    NAME: lower-case letters, digits and hyphens, at most 40, a letter or digit first.
    """
    from barnraise.contract.spec import Full, Lora
    from coordinator.setup.template import template

    if not re.fullmatch(RUN_PATTERN, name):
        raise SpecError(
            f"{name!r} cannot be a run's name",
            fix="Use lower-case letters, digits and hyphens, at most 40, a letter or digit first.",
        )
    if output.exists():
        raise UserError(f"{output} exists already", fix="Choose another file with --output, or remove it.")
    write_atomic(output, template(name, Full() if target == "full" else Lora(), volunteers).encode())
    say(f"wrote {output}: set the model and the data, then `coordinator check {output}`")
