"""The frames between the daemon and its writer."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from wal import protocol
from wal.errors import FrameRefused, JournalError, JournalLocked, error_of
from wal.protocol import FrameDecoder, decode_reply, decode_request, encode_frame
from wal.records import Entry, StepCompleted

HEAD = protocol.Head(3, 2, b"\0" * 16, True, 5, 1, 4096)
REQUESTS = [
    protocol.Commit([]),
    protocol.Commit([Entry(1, 2, 0, 5, StepCompleted("2/0.1", "charge", Raw(b'{ "a": 1 }')))]),
    protocol.Checkpoint("truncate"),
    protocol.Ping(),
    protocol.Close(),
]
REPLIES = [
    protocol.Hello(HEAD),
    protocol.Receipt(9, 0.25, 4120, 8192),
    protocol.Done("ping", 9),
    protocol.Failure("commit_failed", "no", 75),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: type(one).__name__)
def test_requests_make_the_round_trip(request_: Any) -> None:
    """What the daemon sends is what the writer gets, payloads letter for letter."""
    (body,) = FrameDecoder().feed(encode_frame(request_))
    found = decode_request(body)

    assert type(found) is type(request_)
    if isinstance(request_, protocol.Commit) and request_.entries:
        assert bytes(found.entries[0].record.result) == b'{ "a": 1 }'  # type: ignore[union-attr]
        assert found.entries[0].record.key == "2/0.1"  # type: ignore[union-attr]
    else:
        assert found == request_


@pytest.mark.parametrize("reply", REPLIES, ids=lambda one: type(one).__name__)
def test_replies_make_the_round_trip(reply: Any) -> None:
    """What the writer answers is what the daemon gets."""
    (body,) = FrameDecoder().feed(encode_frame(reply))
    assert decode_reply(body) == reply


@given(bodies=st.lists(st.binary(max_size=50), max_size=8), cuts=st.lists(st.integers(0, 400), max_size=12))
def test_a_stream_may_be_cut_anywhere(bodies: list[bytes], cuts: list[int]) -> None:
    """Whole frames come out whole and in order, however the stream was cut; a torn one at the end does not come out."""
    stream = b"".join(len(body).to_bytes(4, "little") + body for body in bodies) + b"\x05\x00\x00\x00torn"
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    decoder = FrameDecoder()
    found = [body for start, end in itertools.pairwise(places) for body in decoder.feed(stream[start:end])]

    assert found == bodies
    assert decoder.pending_bytes == 8


def test_a_frame_over_the_limit_is_refused_at_its_length() -> None:
    """A length beyond the limit is damage; its body is not waited for."""
    with pytest.raises(FrameRefused, match="11 bytes; at most 10"):
        FrameDecoder(frame_bytes_max=10).feed(b"\x0b\x00\x00\x00")
    assert FrameDecoder(frame_bytes_max=10).feed(b"\x0a\x00\x00\x000123456789") == [b"0123456789"]


def test_a_message_over_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender refuses what the receiver would refuse."""
    monkeypatch.setattr(protocol, "FRAME_BYTES_MAX", 20)
    with pytest.raises(FrameRefused, match="at most 20"):
        encode_frame(protocol.Failure("x" * 20, ""))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'["unheard"]',
        b'["commit",[[1]]]',
        b'["commit",[]',
        b'["ping"]x',
        b'["checkpoint","hard"]',
        b"\xff\xfe",
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    """Malformed JSON, a wrong type, an unknown tag: one kind of error, whose fault it says."""
    for decode in (decode_request, decode_reply):
        with pytest.raises(FrameRefused, match="no message"):
            decode(body)


def test_an_error_is_known_by_its_code() -> None:
    """The daemon raises the class that the writer met; an unknown code is a plain journal error."""
    assert type(error_of("journal_locked", "held")) is JournalLocked
    assert type(error_of("unheard_of", "?")) is JournalError
    assert str(error_of("journal_locked", "held")) == "held"
