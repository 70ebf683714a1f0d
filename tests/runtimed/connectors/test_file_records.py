from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimed.connectors.file_records import (
    BadRecord,
    Piece,
    RecordSplitter,
    csv_header,
    csv_parser,
    json_parser,
)


def split(whole: bytes, size: int, *, quoted: bool, rest: bool = True, **limits: int) -> list[Piece]:
    splitter = RecordSplitter(0, quoted=quoted, **limits)
    pieces = [piece for place in range(0, len(whole), size) for piece in splitter.feed(whole[place : place + size])]
    return pieces + (list(splitter.rest()) if rest else [])


anything = st.lists(st.sampled_from([b"\n", b"a", b'"', b",", b"xyz", b"\r\n"]), max_size=40).map(b"".join)


@given(anything, st.integers(1, 9), st.booleans())
def test_every_byte_is_in_one_record(whole: bytes, size: int, quoted: bool) -> None:
    """Wherever the chunks end and whatever is wrong, records follow each other without a gap to the end of the file,
    and are the same for every size of chunk."""
    limits = {"record_max_bytes": 6, "quoted_max_bytes": 8}
    pieces = split(whole, size, quoted=quoted, **limits)
    place = 0
    for piece in pieces:
        assert (piece.begin, piece.begin < piece.end) == (place, True)
        place = piece.end
    assert place == len(whole)
    if not quoted:
        again = split(whole, 1, quoted=quoted, **limits)
        assert [piece[1:] for piece in pieces] == [piece[1:] for piece in again]
        assert [piece.fault != "" for piece in pieces] == [
            len(line) > 6 for line in whole.removesuffix(b"\n").split(b"\n") if whole
        ]


rows = st.lists(st.lists(st.text('ab",\n ', max_size=6), min_size=2, max_size=2), min_size=1, max_size=8)


@given(rows, st.integers(1, 50))
def test_csv_with_newlines_in_quotes_is_read_as_it_was_written(table: list[list[str]], size: int) -> None:
    """What the standard library writes, newlines and quotes in fields included, comes back field by field."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(table)
    pieces = split(text.getvalue().encode(), size, quoted=True)
    parse = csv_parser(["a", "b"], ",", "utf-8")
    assert [list(json.loads(bytes(parse(piece.data))).values()) for piece in pieces] == table


def test_a_quote_that_is_not_closed_costs_one_line() -> None:
    """The line with the stray quote is set aside, and the lines after it are read."""
    whole = b'1,"stray\n' + b"".join(b"%d,fine\n" % number for number in range(2, 50))
    pieces = split(whole, 7, quoted=True, quoted_max_bytes=64)
    assert [piece.data for piece in pieces if piece.fault] == [b'1,"stray']
    assert [piece.data for piece in pieces if not piece.fault] == [b"%d,fine" % number for number in range(2, 50)]
    pieces = split(whole, 1_000, quoted=True)  # at the end of the file, sooner than the limit
    assert [piece.data for piece in pieces if piece.fault] == [b'1,"stray']


def test_a_line_that_is_too_long_is_not_held() -> None:
    """A huge line is given as a fault with its beginning, and what follows is read."""
    splitter = RecordSplitter(10, quoted=False, record_max_bytes=5_000)
    assert list(splitter.feed(b"x" * 20_000)) == []
    assert list(splitter.feed(b"y" * 20_000)) == []
    (long, good) = splitter.feed(b"y\nfine\n")
    assert (long.data, long.fault) == (b"x" * 1_000, "it is longer than 5,000 bytes")
    assert (long.begin, long.end, good) == (10, 40_012, Piece(b"fine", 40_012, 40_017))


@pytest.mark.parametrize(
    ("parse", "line", "why"),
    [
        (json_parser("utf-8"), b'{"id":', "it is no JSON"),
        (json_parser("utf-8"), b'{"id":"\xff"}', "it is not utf-8"),
        (csv_parser(["a", "b"], ",", "utf-8"), b"1,2,3", "it has 3 fields, and the header 2"),
        (csv_parser(["a"], ",", "ascii"), b"\xe9", "it is not ascii"),
        (csv_parser(["a"], ",", "utf-8"), b'"a"b', "it is no CSV"),
    ],
)
def test_what_cannot_be_read_says_why(parse: object, line: bytes, why: str) -> None:
    """Broken JSON, another encoding, a field too many, a quote inside a field: each is named."""
    with pytest.raises(BadRecord, match=why):
        parse(line)  # type: ignore[operator]


def test_encodings_come_out_as_utf_8() -> None:
    """A file in another encoding is kept as UTF-8, JSON otherwise as it was sent."""
    assert bytes(json_parser("latin-1")(b' {"a": "caf\xe9", "n": 1.0} ')) == '{"a": "café", "n": 1.0}'.encode()
    assert bytes(csv_parser(["a", "b"], ";", "cp1252")(b"\x80;2")) == '{"a":"€","b":"2"}'.encode()


def test_headers() -> None:
    """A byte order mark is no part of the first name; a nameless and a repeated column are refused."""
    assert csv_header(b"\xef\xbb\xbfid, name", ",", "utf-8") == ["id", "name"]
    with pytest.raises(BadRecord, match="a column without a name"):
        csv_header(b"id,,x", ",", "utf-8")
    with pytest.raises(BadRecord, match="the header has 'id' twice"):
        csv_header(b"id,x,id", ",", "utf-8")
