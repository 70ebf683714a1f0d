"""The sanitiser: nothing that could act on a terminal or hide in it gets through, and ordinary text stays as it is."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimed.escape import escape, escape_json, shorten, width


@pytest.mark.parametrize("text", ["", "plain text", "Grüße", "日本語", "naïve", "a\u0301", "🎉", "x {y} [z] \\n"])
def test_ordinary_text_stays(text: str) -> None:
    """What a person can read is shown as it is."""
    assert escape(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb\nc\td", "a\\x0db\\x0ac\\x09d"),
        ("\x7f", "\\x7f"),
        ("user\u202egnp.exe", "user\\u{202e}gnp.exe"),
        ("pay\u200bpal", "pay\\u{200b}pal"),
        ("\u2066x\u2069", "\\u{2066}x\\u{2069}"),
        ("\ufeffx", "\\u{feff}x"),
        ("\U000e0041", "\\u{e0041}"),
        ("\u2028", "\\u{2028}"),
        ("\udc9b", "\\u{dc9b}"),
        ("\xad", "\\xad"),
    ],
)
def test_what_could_act_or_hide_is_shown(text: str, shown: str) -> None:
    """Escape sequences, line ends, direction marks, invisible characters and tags become visible."""
    assert escape(text) == shown


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_json_keeps_its_meaning(text: str) -> None:
    """JSON with the dangerous characters as escapes is the same JSON."""
    document = json.dumps({"x": text}, ensure_ascii=False)
    shown = escape_json(document)

    assert json.loads(shown) == {"x": text}
    assert set(shown) & set("\x7f\x80\x9b\xad\u200b\u202e\u2066\ufeff\U000e0041") == set()


def test_json_escapes_every_dangerous_character() -> None:
    """DEL, C1, marks beyond the first plane: all become `\\uXXXX`, in pairs where they must."""
    assert escape_json('"\x7f\x9b\U000e0041"') == '"\\u007f\\u009b\\udb40\\udc41"'


def test_what_is_kept_is_kept() -> None:
    """A caller that prints lines keeps line ends, and nothing else."""
    assert escape("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@given(st.text(alphabet=st.characters(), max_size=50))
def test_no_control_or_format_character_survives(text: str) -> None:
    """Whatever comes in, what goes out has no character of the categories Cc, Cf and Cs, bar a few visible ones."""
    visible = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"

    bad = [c for c in escape(text) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in visible]

    assert [c for c in bad if not 0x13430 <= ord(c) <= 0x13455 and not 0x1BCA0 <= ord(c) <= 0x1BCA3] == []


def test_piled_up_marks_are_cut() -> None:
    """A tower of accents cannot cover the lines around it."""
    assert escape("a" + "\u0301" * 50) == "a" + "\u0301" * 4


def test_width_counts_cells() -> None:
    """Wide characters take two cells, marks none."""
    assert (width("abc"), width("日本"), width("a\u0301")) == (3, 4, 1)


@pytest.mark.parametrize(
    ("text", "cells", "shown"), [("abcdef", 6, "abcdef"), ("abcdef", 4, "abc…"), ("日本語", 4, "日…")]
)
def test_shorten_fits(text: str, cells: int, shown: str) -> None:
    """Text is cut to the cells there are, and the cut is marked."""
    assert shorten(text, cells) == shown
