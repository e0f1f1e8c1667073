"""Shared by both command lines: errors as two lines and an exit status, finite numbers, plain logs."""

from __future__ import annotations

import functools
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from barnraise.core.errors import BarnraiseError

P = ParamSpec("P")
V = TypeVar("V")

DEBUG_VARIABLE = "BARNRAISE_DEBUG"


def debug_wanted() -> bool:
    return bool(os.environ.get(DEBUG_VARIABLE))


def plain_errors(command: Callable[P, V]) -> Callable[P, V]:
    """On a BarnraiseError, print its two lines and exit with its status; with --debug also a traceback."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> V:
        try:
            return command(*args, **kwargs)
        except BarnraiseError as error:
            if debug_wanted():
                traceback.print_exc()
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)

    return guarded


class FiniteRange(click.FloatRange):
    """A range without NaN and infinity, which click's range lets pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class _CurrentStderr(logging.Handler):
    """Writes to the current standard error, which a live display replaces while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), file=sys.stderr)


def start_logging(debug: bool) -> None:
    """Log plain lines to standard error; libraries log warnings and errors only."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
    logging.basicConfig(
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        level=logging.WARNING,
        handlers=[_CurrentStderr()],
        force=True,
    )
    for ours in ("barnraise", "coordinator", "peer"):
        logging.getLogger(ours).setLevel(logging.DEBUG if debug else logging.INFO)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # read when grpc is first imported
    # hivemind reports its own shutdown as errors, and unreachable neighbours as warnings
    logging.getLogger("hivemind").setLevel(logging.WARNING if debug else logging.CRITICAL)
