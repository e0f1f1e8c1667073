"""A program continues where its output cannot be written. In separate processes, with real streams."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """\
import logging, sys
import click
from rich.console import Console
from rich.live import Live
from barnraise.runtime.console import start_logging
from barnraise.runtime.console_streams import outlive_display

start_logging(False)
outlive_display()
for _ in range(5):
    click.echo("x" * 10_000)
    logging.getLogger("peer").info("y" * 10_000)
with Live(console=Console(stderr=True, force_terminal=True)) as live:
    for number in range(5):
        live.update(str(number), refresh=True)
        logging.getLogger("peer").info("z")
        click.echo("z")
open(sys.argv[1], "w").write("reached the end")
"""


@pytest.mark.parametrize("kind", ["full disk", "closed pipe", "closed terminal"])
def test_an_output_that_cannot_be_written_ends_nothing(tmp_path: Path, kind: str) -> None:
    if kind == "full disk":
        output = os.open("/dev/full", os.O_WRONLY)
    elif kind == "closed pipe":
        reading, output = os.pipe()
        os.close(reading)
    else:
        terminal, output = pty.openpty()
        os.close(terminal)
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "end")],
        stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=120, check=False,
    )  # fmt: skip
    os.close(output)
    assert program.returncode == 0
    assert (tmp_path / "end").read_text() == "reached the end"
