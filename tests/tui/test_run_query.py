"""The grammar of the runs' filter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.fake_daemon import run
from tui.filters import BadFilter
from tui.run_query import parse_query
from tui.states import OPEN_STATUSES, word_of
from wal.views import RunView


def found(text: str, *runs: RunView) -> list[str]:
    query = parse_query(text)
    return [one.id for one in runs if query.matches(one, word_of(one))]


RUNS = (
    run("order-1", "order_saga"),
    run("order-2", "order_refund", "waiting", waiting_on="approval", attributes={"region": "eu"}),
    run("ab7f3", "billing", "waiting", waiting_on="timer"),
    run("ffab7", "billing", "failed"),
)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", ["order-1", "order-2", "ab7f3", "ffab7"]),
        ("st:live", ["order-1", "order-2", "ab7f3"]),
        ("st:appr", ["order-2"]),
        ("st:wait", ["ab7f3"]),
        ("st:fail,appr", ["order-2", "ffab7"]),
        ("wf:order*", ["order-1", "order-2"]),
        ("wf:*_refund", ["order-2"]),
        ("wf:billing", ["ab7f3", "ffab7"]),
        ("wf:order", []),
        ("id:7f3", ["ab7f3"]),
        ("id:order", ["order-1", "order-2"]),
        ("id:*ab7*", ["ab7f3", "ffab7"]),
        ("att.region=eu", ["order-2"]),
        ("refund", ["order-2"]),
        ("st:live wf:billing", ["ab7f3"]),
    ],
)
def test_a_filter_selects(text: str, ids: list[str]) -> None:
    """Each word of the grammar selects what it says, several together all of it."""
    assert found(text, *RUNS) == ids


def test_what_the_daemon_can_select_it_selects() -> None:
    """Status, a whole workflow name and attributes go into the request; only patterns need the rows."""
    query = parse_query("st:live wf:billing att.region=eu")
    assert (query.statuses, query.workflow, query.attributes) == (OPEN_STATUSES, "billing", {"region": "eu"})
    assert not query.by_rows
    assert parse_query("wf:order*").by_rows
    assert parse_query("st:appr").statuses == ("waiting",)


@pytest.mark.parametrize("text", ["st:nothing", "wf:", "id:", "att.region"])
def test_a_part_that_means_nothing_is_named(text: str) -> None:
    """A filter is not followed half: the part that is wrong is in the message."""
    with pytest.raises(BadFilter, match=text.partition(":")[2] or text.replace(".", r"\.")):
        parse_query(text)


@given(st.text(max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    """Whatever is typed is a filter or refused as one."""
    try:
        query = parse_query(text)
    except BadFilter:
        return
    query.matches(RUNS[0], "RUN")
