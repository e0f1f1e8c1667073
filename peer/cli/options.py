"""Options that several of `peer`'s commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from platformdirs import user_cache_path

Command = TypeVar("Command", bound=Callable[..., Any])

base_option = click.option(
    "--base", type=click.Path(path_type=Path), help="The base model's folder or .gguf file, if you have it."
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, mps, cuda or cuda:N."
)


def cache_option(kept: str) -> Callable[[Command], Command]:
    """--cache-dir. kept: what is kept there."""
    return click.option(
        "--cache-dir",
        type=click.Path(path_type=Path),
        default=user_cache_path("barnraise"),
        show_default="the user's cache folder",
        help=f"Where {kept}.",
    )
