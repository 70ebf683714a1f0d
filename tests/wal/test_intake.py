"""What the journal knows of connectors and webhooks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import Raw

from wal import records as r
from wal.journal import Journal
from wal.records import Entry

AT = 1_770_000_000_000_000


@pytest.fixture
def journal() -> Iterator[Journal]:
    with Journal.open(None) as journal:
        yield journal


def commit(journal: Journal, *facts: r.Fact) -> None:
    first = journal.reader().head_seq() + 1
    journal.commit([Entry(seq, 0, 0, AT + seq, fact) for seq, fact in enumerate(facts, first)])


def test_a_connector_counts_what_its_cursor_records_say(journal: Journal) -> None:
    """Records, repeats and refusals are those of its CursorAdvanced; a refusal beside it is only shown."""
    commit(
        journal,
        r.DeliveryRefused("crm", "7", "no_key", "there is no key"),
        r.CursorAdvanced("crm", Raw(b"9"), "hubspot", 5, ["a"], 2, 1),
        r.ConnectorReset("crm", Raw(b"3")),
    )
    view = journal.reader().connector("crm").view()
    assert (view.name, view.kind, view.status, bytes(view.cursor)) == ("crm", "hubspot", "ok", b"3")
    assert (view.records_total, view.repeated_total, view.refused_total, view.generation) == (5, 2, 1, 1)
    assert (view.last_error, view.last_poll_at) == ("no_key: there is no key", "2026-02-02T02:40:00.000002Z")


def test_a_webhook_counts_its_deliveries(journal: Journal) -> None:
    """Each delivery once, refused ones too, with the time of the last; a connector may have the same name."""
    commit(
        journal,
        r.CursorAdvanced("hooks", Raw(b"1"), "files", 4),
        r.WebhookReceived("hooks", "evt_1"),
        r.DeliveryRefused("webhook:hooks", "evt_2", "invalid_input", "no such workflow"),
        r.WebhookReceived("hooks", "evt_2"),
    )
    reader = journal.reader()
    views = {row.name: row.view() for row in reader.connectors()}
    hook = views["webhook:hooks"]
    assert (hook.name, hook.kind, hook.records_total, hook.refused_total) == ("hooks", "webhook", 2, 1)
    assert hook.last_error == "invalid_input: no such workflow"
    assert hook.last_poll_at == "2026-02-02T02:40:00.000004Z"
    assert (views["hooks"].kind, views["hooks"].records_total, views["hooks"].refused_total) == ("files", 4, 0)
    assert reader.deliveries("webhook:hooks") == 2
