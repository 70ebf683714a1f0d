from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimed.connectors.line_splitter import LineSplitter, LineTooLong

text = st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\r", b"\xff", b"{}"]), max_size=40).map(b"".join)


@given(text, st.lists(st.integers(0, 60), max_size=10))
def test_chunks_do_not_matter(whole: bytes, cuts: list[int]) -> None:
    """However the bytes are cut into chunks, the same lines come out, and what has no newline is the rest."""
    splitter = LineSplitter()
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    blocks = [splitter.feed(whole[a:b]) for a, b in itertools.pairwise(places)]
    assert all(block == b"" or block.endswith(b"\n") for block in blocks)
    held = splitter.held_bytes
    rest = splitter.rest()
    assert b"".join(blocks) + rest == whole
    assert b"\n" not in rest
    assert held == len(rest)


@given(text, st.integers(1, 7))
def test_no_line_is_over_the_limit(whole: bytes, size: int) -> None:
    """A line over the limit is refused wherever the chunks end, and one within it never is."""
    splitter, limit = LineSplitter(3), 3
    longest = max(map(len, whole.split(b"\n")))
    try:
        for place in range(0, len(whole), size):
            splitter.feed(whole[place : place + size])
    except LineTooLong:
        assert longest > limit
    else:
        assert longest <= limit


def test_a_long_line_costs_no_square() -> None:
    """A line of 16 MiB in chunks of 1 KiB is collected in time that grows with its length."""
    splitter, chunk = LineSplitter(), b"x" * 1024
    began = time.process_time()
    for _ in range(16 * 1024):
        assert splitter.feed(chunk) == b""
    assert len(splitter.feed(b"\n")) == 16 * 1024 * 1024 + 1
    assert time.process_time() - began < 2.0  # copying it anew each time would be 128 GiB
    splitter.feed(b"x" * 1024 * 1024 * 16)
    with pytest.raises(LineTooLong):
        splitter.feed(b"x")
