"""Shared by both command lines: errors as two lines and an exit status, finite numbers, plain text and logs.

Nothing else of both programs writes to the terminal, but `barnraise.runtime.plain_console` and the answers of
`peer chat`: what others wrote is printed as text.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import click

from barnraise.core.errors import BarnraiseError
from barnraise.core.plain_text import one_line, printable, spelled

P = ParamSpec("P")
V = TypeVar("V")

DEBUG_VARIABLE = "BARNRAISE_DEBUG"
LONGEST_MESSAGE = 20_000
"""Characters of one that is logged; a long traceback has 10,000."""


def debug_wanted() -> bool:
    return bool(os.environ.get(DEBUG_VARIABLE))


def say(text: str, *, err: bool = False) -> None:
    """Print `text`, which may have several lines. err: to standard error."""
    click.echo(spelled(text), err=err)


def say_line(text: str, *, err: bool = False) -> None:
    """Print `text` as one line, which no line end in it breaks."""
    click.echo(one_line(text), err=err)


def plain_errors(command: Callable[P, V]) -> Callable[P, V]:
    """On a BarnraiseError, print its two lines and exit with its status; with --debug also a traceback."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> V:
        try:
            return command(*args, **kwargs)
        except BarnraiseError as error:
            if debug_wanted():
                say(traceback.format_exc(), err=True)
            say(f"error: {error}", err=True)
            sys.exit(error.exit_code)

    return guarded


class FiniteRange(click.FloatRange):
    """A range without NaN and infinity, which click's range lets pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class PlainFormatter(logging.Formatter):
    """A log message is one line of plain text. The lines of a traceback are indented below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        return one_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if len(text) > LONGEST_MESSAGE:
            text = f"{text[:LONGEST_MESSAGE]} … and {len(text) - LONGEST_MESSAGE:,} characters more"
        return printable(text).replace("\n", "\n         ")


class _CurrentStderr(logging.Handler):
    """Writes to the current standard error, which a live display replaces while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), file=sys.stderr)


def show_bug(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Print an exception that nothing handled, whose text may be of others. For `sys.excepthook`."""
    say("".join(traceback.format_exception(kind, error, where)).rstrip(), err=True)


def start_logging(debug: bool) -> None:
    """Log plain lines to standard error; libraries log warnings and errors only."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
    sys.excepthook = show_bug
    handler = _CurrentStderr()
    handler.setFormatter(PlainFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for ours in ("barnraise", "coordinator", "peer"):
        logging.getLogger(ours).setLevel(logging.DEBUG if debug else logging.INFO)
    # gRPC's core writes what strangers send to standard error, as it is. Read when grpc is first imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # hivemind reports its own shutdown as errors, and unreachable neighbours as warnings
    logging.getLogger("hivemind").setLevel(logging.WARNING if debug else logging.CRITICAL)
