"""The display of `peer download`, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from barnraise.runtime.plain_console import PlainConsole
from peer.download.progress import DownloadBars, DownloadDisplay, DownloadLines, download_display


def console(terminal: bool) -> PlainConsole:
    return PlainConsole(file=io.StringIO(), force_terminal=terminal, width=120)


def show(display: DownloadDisplay[str]) -> None:
    with display:
        display.file("model.safetensors", 3_000_000, 1_000_000)
        display.file("README.md", 2000, 0)
        display.got("model.safetensors", 2_000_000)
        display.again("model.safetensors")
        display.got("model.safetensors", 3_000_000)
        display.got("README.md", 2000)
        display.done("model.safetensors")
        display.say("dropped [bold]mirror[/bold]: false bytes")
        display.report("event")


def test_a_terminal_gets_bars_and_anything_else_lines() -> None:
    assert isinstance(download_display(console(True), str), DownloadBars)
    assert isinstance(download_display(console(False), str), DownloadLines)


def test_a_terminal_shows_each_file_and_all_of_them() -> None:
    screen = console(True)
    show(DownloadBars(screen, str.upper))
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    last = shown[shown.rindex("all files") :]
    assert "3.0/3.0 MB" in last, "bytes that are fetched again are counted twice, or not at all"
    assert "README.md" in last
    assert "dropped [bold]mirror[/bold]: false bytes" in shown
    assert "EVENT" in shown


def test_lines_name_complete_and_damaged_files(capsys: pytest.CaptureFixture[str]) -> None:
    show(DownloadLines(str.upper))
    assert capsys.readouterr().err.splitlines() == [
        "model.safetensors: resuming after 1 MB of 3 MB",
        "model.safetensors: the bytes do not match its hash; fetching it again",
        "model.safetensors: 3 MB",
        "dropped [bold]mirror[/bold]: false bytes",
        "EVENT",
    ]
