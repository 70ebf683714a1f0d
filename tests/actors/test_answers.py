"""The first answers to idempotency keys."""

from __future__ import annotations

import msgspec
import pytest

from actors.answers import Answers
from actors.errors import KeyReused
from actors.messages import Accepted, RequestKey
from tests.actors.hand_writer import HandWriter
from tests.actors.hand_writer import writer as writer

KEY = RequestKey(principal="uid:1", key="k", digest="d")


@pytest.mark.parametrize("durable", [False, True])
def test_an_answer_is_found_before_and_after_it_is_durable(writer: HandWriter, durable: bool) -> None:
    """The first answer is found again by its key; the seq says when it may be given."""
    answers = Answers(writer.journal.reader(), writer.append, writer.when_durable)
    assert answers.find(KEY) is None and answers.find(None) is None
    answers.keep(None, Accepted(seq=1, id="r"))
    answers.keep(KEY, Accepted(seq=1, id="r"))
    if durable:
        writer.flush()
        assert answers._undurable == {}
    known = answers.find(KEY)
    assert known is not None and known.seq == 1
    assert msgspec.json.decode(known.body, type=Accepted) == Accepted(seq=1, id="r")
    with pytest.raises(KeyReused):
        answers.find(RequestKey(principal="uid:1", key="k", digest="other"))
    assert answers.find(RequestKey(principal="uid:2", key="k", digest="other")) is None
