"""What `peer download` shows, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from peer.download.progress import DownloadBars, DownloadDisplay, DownloadLines, download_display


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, legacy_windows=False)


def go(display: DownloadDisplay) -> None:
    with display:
        display.file("model.safetensors", 3_000_000, 1_000_000)
        display.file("README.md", 2000, 0)
        display.got("model.safetensors", 2_000_000)
        display.again("model.safetensors")
        display.got("model.safetensors", 3_000_000)
        display.got("README.md", 2000)
        display.done("model.safetensors")
        display.say("left [bold]mirror[/bold]: it lies")


def test_a_terminal_gets_bars_and_anything_else_lines() -> None:
    assert isinstance(download_display(console(True)), DownloadBars)
    assert isinstance(download_display(console(False)), DownloadLines)


def test_a_terminal_shows_each_file_and_all_of_them() -> None:
    screen = console(True)
    go(DownloadBars(screen))
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    last = shown[shown.rindex("all files") :]
    assert "3.0/3.0 MB" in last, "bytes that came false are counted twice, or not at all"
    assert "README.md" in last
    assert "left [bold]mirror[/bold]: it lies" in shown


def test_lines_tell_what_is_whole_and_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    go(DownloadLines())
    assert capsys.readouterr().err.splitlines() == [
        "model.safetensors: going on after 1 MB of 3 MB",
        "model.safetensors: false bytes, fetched anew",
        "model.safetensors: 3 MB",
        "left [bold]mirror[/bold]: it lies",
    ]
