"""The preview of a sample: at most a screen, marks kept in pairs, nothing that acts on a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from coordinator.messages.preview import COLUMNS, LINES, preview_lines


def test_a_short_text_is_shown_whole() -> None:
    assert preview_lines("is it\n⟦four⟧?\n") == ["is it", "⟦four⟧?"]


def test_a_long_text_loses_its_middle() -> None:
    lines = preview_lines("\n".join(f"line {number}" for number in range(100)))
    assert len(lines) == LINES
    assert (lines[0], lines[-1]) == ("line 0", "line 99")
    assert "… 77 lines …" in lines


def test_a_long_line_is_wrapped_by_columns() -> None:
    assert preview_lines("a" * 100) == ["a" * 80, "a" * 20]
    assert preview_lines("word " * 20) == ["word " * 16, "word " * 4]
    assert preview_lines("日" * 50) == ["日" * 40, "日" * 10]


def test_a_trained_part_that_is_cut_is_closed_and_opened_again() -> None:
    text = "\n".join(["question", "⟦answer", *["more"] * 100, "end⟧"])
    lines = preview_lines(text)
    assert "⟧ … 80 lines … ⟦" in lines


def test_padding_is_counted() -> None:
    assert preview_lines("⟦a⟧" + "<|pad|>" * 400) == ["⟦a⟧<|pad|> × 400"]


def test_control_characters_are_escaped() -> None:
    assert preview_lines("a\x1b[2Jb\x07\u202ec\r") == ["a\\x1b[2Jb\\x07\\u202ec\\r"]
    assert preview_lines("👩\u200d🌾") == ["👩\u200d🌾"], "a joiner belongs to its text"


@given(st.text(alphabet=st.sampled_from("ab⟦⟧日\n\t\x1b ")))
def test_no_text_takes_more_than_a_screen(text: str) -> None:
    lines = preview_lines(text)
    assert len(lines) <= LINES
    assert all(cell_len(line) <= COLUMNS for line in lines)
