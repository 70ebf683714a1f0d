"""The journal's care over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import Conflict
from wal.errors import JournalError
from wal.liveness import Doubt


@pytest.mark.trio
async def test_how_the_journal_stands(serve: Any, rt: Any) -> None:
    """The last backup or null, and each open run that nothing will wake, with the reason."""
    async with serve() as http:
        assert (await http.ask("GET", "/v1/journal")).json() == {"seq": 0, "last_backup": None, "unwakeable": []}
        await rt.care.backup()
        rt.care.doubts = [Doubt(4, "order-4", "it waits for a timer, and there is none", False)]
        told = (await http.ask("GET", "/v1/journal")).json()
    assert told["last_backup"] == {
        "path": "/backups/journal.db", "seq": 9, "size_bytes": 4096, "seconds": 0.5,
        "at": "2023-11-14T22:13:20.000000Z",
    }  # fmt: skip
    assert told["unwakeable"] == [{"id": "order-4", "why": "it waits for a timer, and there is none"}]


@pytest.mark.trio
async def test_a_backup_is_audited_and_answered_when_it_is_there(serve: Any, rt: Any) -> None:
    """201 with what was made; who asked and why is recorded; a refusal is a problem document."""
    async with serve() as http:
        answer = await http.ask("POST", "/v1/journal/backup", {"path": "/b/x.db", "reason": "before the upgrade"})
        assert (answer.status, answer.json()["path"]) == (201, "/b/x.db")
        assert rt.audited[-1][:2] == ("journal.backup", "/b/x.db")
        assert rt.audited[-1][3] == "before the upgrade"
        assert (await http.ask("POST", "/v1/journal/backup", {})).status == 201
        assert rt.care.asked == ["/b/x.db", None]
        rt.care.refusal = Conflict("a backup is being taken")
        assert (await http.ask("POST", "/v1/journal/backup", {})).status == 409
        rt.care.refusal = JournalError("the disk is full")
        assert (await http.ask("POST", "/v1/journal/backup", {})).status == 503
        assert (await http.ask("POST", "/v1/journal/backup", {"where": "/x"})).status == 400


@pytest.mark.trio
async def test_forgetting_says_how_much(serve: Any, rt: Any) -> None:
    """A dry run is not audited and says what would go; an age of nothing is refused."""
    async with serve() as http:
        tried = await http.ask("POST", "/v1/journal/gc", {"dry_run": True, "older_than": 60.0})
        told = {"runs": 2, "records": 20, "answers": 4, "older_than": "2023-11-14T22:13:20.000000Z", "dry_run": True}
        assert tried.json() == told
        assert rt.audited == []
        done = await http.ask("POST", "/v1/journal/gc", {"reason": "law"})
        assert (done.status, done.json()["dry_run"]) == (200, False)
        assert [asked[:2] for asked in rt.care.asked] == [(60.0, True), (None, False)]
        assert rt.audited[-1][0] == "journal.gc"
        assert (await http.ask("POST", "/v1/journal/gc", {"older_than": 0})).status == 400
