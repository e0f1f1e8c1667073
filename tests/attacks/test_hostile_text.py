"""Names, problems, descriptions and file names that attack the screen of their reader.

Every output of both programs is here. What others wrote appears as text: it moves no cursor, writes no
clipboard, opens no link, hides nothing and passes for no line of ours.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.live import Live

from barnraise.contract.status import FaultStatus, PeerStatus, RunStatus
from barnraise.core.errors import BarnraiseError, MalformedRecord
from barnraise.core.plain_text import json_text, one_line, printable, spelled, yaml_text
from barnraise.fold.replay import Cause, Difference
from barnraise.gateway.landing_page import escape
from barnraise.runtime.console import LONGEST_MESSAGE, PlainFormatter, plain_errors, say, say_line, show_bug
from barnraise.runtime.fetch_display import FetchBars, FetchLines
from barnraise.runtime.plain_console import PlainConsole
from coordinator.checkpoints.card import code, plain
from coordinator.checkpoints.curve import held_out_svg
from coordinator.dataset.rows.field_values import shown
from coordinator.messages.preview import preview_lines
from coordinator.status import render
from peer.chat.screen import ColumnScreen, SequentialScreen
from peer.messages.verify import difference_message
from peer.verify.display import VerifyBar
from peer.volunteer.display import StatusLines, StatusPanel, VolunteerStatus
from peer.volunteer.reasons import StepsDone
from tests.support.hostile import JOINERS, PIECES, acting, hostile_texts

ROOT = Path(__file__).parents[2]
STATUS = VolunteerStatus(
    run="barn", round=3, doing=StepsDone(1), loss=1.0, tokens=1, tokens_per_second=1.0, peers=1, up=0, down=0,
    state="a" * 8,
)  # fmt: skip


def status_with(text: str) -> RunStatus:
    peer = PeerStatus(
        name=text, key=text, round=3, state="a" * 64, tokens=1, tokens_per_second=1.0, seen_seconds_ago=1.0
    )
    return RunStatus(
        run=text, round=3, phase=text, waiting_for=text, state=text, state_round=3, tokens=1, loss=None,
        checkpoint_round=0, divergence=text or "x", evaluation=text or "x", peers=(peer,),
        rehearsed=True, length=text,
        faults=(FaultStatus(key=text, device=text, problem=text, seconds_ago=60.0),),
    )  # fmt: skip


def stderr_of(call: object, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    call()  # type: ignore[operator]
    return capsys.readouterr().err


@settings(max_examples=30, deadline=None)
@given(hostile_texts)
def test_the_status_shows_text(text: str) -> None:
    found = render(status_with(text))
    assert acting(found, allowed="\n" + JOINERS) == []
    for line in found.splitlines():
        assert not line.startswith("12:00:00"), "a forged line of a log"


def test_a_name_that_is_markup_or_an_emoji_code_stays_what_it_is() -> None:
    for name in ("[/b]", "[link=x]y", ":smile:"):
        assert f"│ {name} " in render(status_with(name))


@given(hostile_texts)
def test_the_status_as_json_is_ascii_and_says_the_same(text: str) -> None:
    found = json_text({"name": text})
    assert acting(found, allowed="\n") == []
    assert found.isascii()
    assert json.loads(found) == {"name": text}


@given(hostile_texts)
def test_a_log_line_is_one_line_and_text(text: str) -> None:
    record = logging.LogRecord("peer", logging.INFO, "x", 1, "refused %s: %s", (text, text), None)
    found = PlainFormatter().format(record)
    assert acting(found) == []


def test_a_log_message_has_a_length() -> None:
    record = logging.LogRecord("peer", logging.INFO, "x", 1, "joined: %s", ("x" * 10**6,), None)
    assert len(PlainFormatter().format(record)) < LONGEST_MESSAGE + 100


def test_a_traceback_in_the_log_is_text() -> None:
    try:
        raise ValueError("".join(PIECES))
    except ValueError:
        record = logging.LogRecord("peer", logging.ERROR, "x", 1, "failed", (), sys.exc_info())
    found = PlainFormatter().format(record)
    assert acting(found, allowed="\n") == []
    assert all(line.startswith("         ") for line in found.split("\n")[1:]), "a forged line of the log"


@given(hostile_texts)
def test_errors_have_two_lines_of_text(text: str) -> None:
    error = MalformedRecord(f"a record with {text}", fix=f"ask {text}")
    assert acting(str(error), allowed="\n") == []
    assert str(error).count("\n") == 1
    assert acting(error.problem + error.fix + str(error.args[0])) == []


@pytest.mark.parametrize("piece", PIECES, ids=ascii)
def test_the_console_prints_text(piece: str, capsys: pytest.CaptureFixture[str]) -> None:
    @plain_errors
    def failing() -> None:
        raise BarnraiseError(piece, fix=piece)

    def failed() -> None:
        with pytest.raises(SystemExit):
            failing()

    def bug() -> None:
        show_bug(ValueError, ValueError(piece), None)

    for call in (failed, bug, lambda: say(piece, err=True)):
        assert acting(stderr_of(call, capsys), allowed="\n\t" + JOINERS) == []
    line = stderr_of(lambda: say_line(piece, err=True), capsys)
    assert acting(line[:-1]) == []


@settings(max_examples=20, deadline=None)
@given(hostile_texts)
def test_displays_on_a_terminal_show_text(text: str) -> None:
    written = io.StringIO()
    console = PlainConsole(file=written, force_terminal=True, width=100)
    with FetchBars(console) as bars:
        bars.file(text, 10, 5)
        bars.got(text, 1)
        bars.again(text)
        bars.say(text)
    with VerifyBar(console, str, str) as bar:
        bar.say(text)
    with StatusPanel(console, lambda _: text) as panel:
        panel.show(STATUS)
    with ColumnScreen(console).answering((text, text)) as writers:
        writers[0](text)
    assert foreign(written.getvalue()) == []


def foreign(written: str) -> list[str]:
    """What a terminal obeys in an output, but for the cursor and style sequences that rich itself writes."""
    for own in ("\x1b[?25l", "\x1b[?25h", "\x1b[2K", "\x1b[1A", "\r"):
        written = written.replace(own, "")
    plain_parts = [part.partition("m")[2] if i else part for i, part in enumerate(written.split("\x1b["))]
    return acting("".join(plain_parts), allowed="\n" + JOINERS)


@given(hostile_texts)
def test_displays_without_a_terminal_show_lines_of_text(text: str) -> None:
    with redirect_stdout(io.StringIO()) as written:
        lines = FetchLines(say_line)
        lines.file(text, 10, 5)
        lines.done(text)
        lines.say(text)
    assert acting(written.getvalue(), allowed="\n") == []
    assert written.getvalue().count("\n") == 3


def test_a_volunteer_s_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    StatusLines(lambda _: "".join(PIECES[:10])).show(STATUS)
    found = capsys.readouterr().out
    assert acting(found[:-1]) == []


@given(hostile_texts)
def test_an_answer_is_text(text: str) -> None:
    written = io.StringIO()
    with SequentialScreen(PlainConsole(file=written)).answering((text, text)) as writers:
        for write in writers:
            write(text)
    assert acting(written.getvalue(), allowed="\n\t" + JOINERS) == []


def test_a_live_display_shows_lines_that_are_printed_below_it_as_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = io.StringIO()
    with Live("x", console=PlainConsole(file=written, force_terminal=True, width=200)):
        say_line("".join(PIECES))
    assert foreign(written.getvalue()) == []


@given(hostile_texts)
def test_what_differs_is_text_on_four_lines(text: str) -> None:
    found = difference_message(
        Difference(what="file", where=text, expected=text, found=text, cause=Cause.SOURCE)
    )
    assert acting(found, allowed="\n") == []
    assert found.count("\n") == 3


@given(hostile_texts)
def test_a_dataset_s_text_is_previewed_as_text(text: str) -> None:
    assert acting("".join(preview_lines(text)), allowed=JOINERS) == []
    assert acting(shown(text)) == []


@given(hostile_texts)
def test_cards_and_pages_hold_text(text: str) -> None:
    assert acting(plain(text) + code(text) + escape(text)) == []
    assert acting(held_out_svg(text, [(1, 1.0)]), allowed="\n") == []
    assert not {"<", ">"} & set(escape(text))
    assert "\n" not in escape(text)


@given(hostile_texts.filter(lambda text: "\ud800" not in text))
@example("😀\x7f\x85\u2028\ufeff")
def test_front_matter_is_text_that_yaml_reads_unchanged(text: str) -> None:
    value = {"name": text, "list": [text, 1.5, None, True, {"deep": text}]}
    assert acting(yaml_text(value)) == []
    assert yaml.safe_load(f"key: {yaml_text(value)}") == {"key": value}


@given(hostile_texts)
def test_plain_text_is_not_changed_again(text: str) -> None:
    assert one_line(one_line(text)) == one_line(text)
    assert printable(printable(text)) == printable(text)
    assert spelled(spelled(text)) == spelled(text)


@given(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126)))
def test_ascii_text_is_shown_unchanged(text: str) -> None:
    assert one_line(text) == printable(text) == spelled(text) == text


@pytest.mark.parametrize("text", ["Zoë", "日本語", "Tiếng Việt", "हिन्दी", "العربية", "😀", "naïve — “so”"])
def test_names_of_the_world_are_shown_unchanged(text: str) -> None:
    assert one_line(text) == text


def test_nothing_else_writes_to_the_terminal() -> None:
    """All of both programs prints by the modules that make text plain."""
    allowed = {
        "proto/barnraise/runtime/console.py",
        "proto/barnraise/runtime/plain_console.py",
        "proto/barnraise/gateway/landing_page.py",  # a command on the page
        "peer/chat/session.py",  # the line end after Ctrl-D
    }
    sources = [path for top in ("coordinator", "peer", "proto") for path in (ROOT / top).rglob("*.py")]
    assert len(sources) > 300
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in sources
        if str(path.relative_to(ROOT)) not in allowed
        and not path.name.endswith("program.py")  # a child's reply to its parent
        for word in re.findall(
            r"click\.echo|(?<![.\w])print\(|\bConsole\(|\bTextColumn\(|print_exc", path.read_text()
        )
    ]
    assert found == []
