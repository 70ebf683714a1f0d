"""Make a golden journal: `python tests/golden/make.py NAME` writes NAME.db.gz and NAME.json beside this file.

A golden journal is a real file as this version writes it, with a record of every kind, and what was to be read in it
then. Each later version must read the same. One that belongs to a release is never made again; a new kind of record or
a new schema gets a new one, under a new name.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from wal import records as r
from wal.journal import Journal
from wal.queries import Reader
from wal.records import Entry, ErrorData, OpenCallData, PastRecord, Record

HERE = Path(__file__).resolve().parent
BEGAN = 1_700_000_000_000_000
SECOND = 1_000_000
ARGS = Raw(b'[[{"id":"order-1","cents":4200}],{}]')


def openings(later: int) -> list[tuple[int, Record]]:
    """Three sessions: one with everything, one with nothing, one that expires."""
    return [
        (0, r.SessionOpened("session-1", "acme", "ann", "client", 60.0, later, "cancel", {"via": "web"}, "t1", "me")),
        (0, r.SessionOpened("session-2", on_close="leave")),
        (0, r.SessionOpened("session-3", ttl=1.0, expires_at=later)),
    ]


def approvals(later: int) -> list[tuple[int, Record]]:
    """One that two people decided, and one that nobody had to."""
    return [
        (1, r.ApprovalRequested("6", "Ship?", "ab12", Raw(b'{"id":1}'), ["ops"], 2, later, Raw(b"{}"), "high", True)),
        (1, r.ApprovalVoted("6", True, "uid:1000", "seen", Raw(b'{"n":1}'), "pts/1", "t3")),
        (1, r.ApprovalVoted("6", True, "uid:1001", None)),
        (1, r.ApprovalDecided("6", True, "uid:1000, uid:1001", "seen", Raw(b'{"n":1}'))),
        (1, r.ApprovalRequested("7", "Again?", "cd34")),
        (1, r.ApprovalWithdrawn("7")),
    ]


def intake(later: int) -> list[tuple[int, Record]]:
    """Sources read, held and set back; webhooks; what was set aside."""
    error = ErrorData("TypeError", "no", None, "Traceback ...")
    items = [r.StoredItem("1", Raw(b'{"id":1}')), r.StoredItem("2", Raw(b'{"id":2}'), True)]
    return [
        (0, r.SchemaSeen("crm", "people", Raw(b'{"type":"object"}'), "uid:0")),
        (0, r.RecordsStored("people", items, "crm")),
        (0, r.CursorAdvanced("crm", Raw(b'{"people":2}'), "singer", 2)),
        (0, r.RecordsStored("people", [r.StoredItem("1", Raw(b'{"id":1,"name":"Ann"}'))], "crm")),
        (0, r.DeliveryRefused("orders", "9", "invalid_input", "no cents", Raw(b'{"id":9}'))),
        (0, r.CursorAdvanced("orders", Raw(b"9"), "poller", 3, ["7", "8"], 1, 1)),
        (0, r.ConnectorPaused("orders", "uid:0", "the shop moves", "t5")),
        (0, r.ConnectorResumed("orders", "uid:0", "moved", "t5")),
        (0, r.ConnectorReset("orders", Raw(b"3"), "uid:0", "again", "t5")),
        (0, r.ConnectorQuarantined("crm", error, 5)),
        (0, r.WebhookReceived("stripe", "evt_1", {"stripe-signature": "t=1"}, '{"id":"evt_1"}', "127.0.0.1", "t6")),
    ]


def care(later: int) -> list[tuple[int, Record]]:
    """Tokens, secrets, the audit, a backup."""
    return [
        (0, r.TokenCreated("ab12", "ci", "operator", "00ff", later, "uid:0", "for the pipeline")),
        (0, r.TokensUsed({"ab12": BEGAN + 5 * SECOND})),
        (0, r.TokenCreated("cd34", "old", "viewer", "11ff")),
        (0, r.TokenRevoked("cd34", "uid:0", "leaked")),
        (0, r.SecretChanged("stripe", "set", "uid:0", "new account", "t7")),
        (0, r.CallAudited("run.cancel", "order-3", "uid:0", "ann pts/1", "changed my mind", "t3")),
        (0, r.BackupTaken("/backup/journal.db", 9, 4096, 0.1)),
        (0, r.RunsForgotten([99], BEGAN)),
        (0, r.AnswersForgotten([99_999], BEGAN)),
    ]


def completed(later: int) -> list[tuple[int, Record]]:
    """A run that went well."""
    error = ErrorData("CardDeclined", "no funds", "charge", "Traceback (most recent call last): ...")
    return [
        # 1: completed, by way of a retry, a signal, timers, state and output
        (1, r.RunStarted("order-1", "checkout", Raw(b'{"cents":4200}'), "v1", "session-1", "acme", "client", None, 5,
                         None, None, "t1", "00-t1-s1-01", {"city": "Rome", "n": 3}, "uid:0")),
        (0, r.RequestAnswered("uid:0", "key-1", "digest-1", 201, Raw(b'{"id":"order-1"}'))),
        (1, r.StepScheduled("0", "charge", ARGS)),
        (1, r.StepFailed("0", "charge", error, 1, BEGAN + 9 * SECOND)),
        (1, r.RunWaiting("retry", BEGAN + 9 * SECOND, [OpenCallData("0", "step", "charge")])),
        (1, r.TimerFired("0")),
        (1, r.StepInterrupted("0", "charge", 2)),
        (1, r.StepCompleted("0", "charge", Raw(b'"ch_\\u00e9 1"'), 3)),
        (1, r.PatchMarked("new-tax")),
        (1, r.AttributesSet("1", {"city": "Oslo"})),
        (1, r.StateRead("1", "global", "rate", False)),
        (1, r.StateWritten("2", "global", "rate", 1, Raw(b"1.5"), tenant="acme", classification="client")),
        (1, r.StateRefused("3", "global", "rate", 7, 1)),
        (1, r.TimerSet("4", later)),
        (1, r.SignalReceived("go", Raw(b'{"wrong":1}'), "signal-1", "uid:0", "t2")),
        (1, r.SignalSetAside("4", "go", "expected str")),
        (1, r.SignalReceived("go", Raw(b'"now"'))),
        (1, r.TimerCancelled("4")),
        (1, r.OutputEmitted("5", Raw(b"[1,2]"))),
        *approvals(later),
        (1, r.RunCompleted(Raw(b'{"ok":true}'))),
    ]  # fmt: skip


def others(later: int) -> list[tuple[int, Record]]:
    """Runs that went otherwise."""
    error = ErrorData("CardDeclined", "no funds", "charge", "Traceback (most recent call last): ...")
    return [
        # 2: failed, with its step undone
        (2, r.RunStarted("order-2", "checkout", Raw(b"null"), parent_id="order-1")),
        (2, r.StepScheduled("0", "charge", ARGS)),
        (2, r.StepCompleted("0", "charge", Raw(b'"ch_2"'))),
        (2, r.ChildStarted("3", "ship", "order-2:3", Raw(b"1"))),
        (2, r.ChildCancelled("3", "order-2:3")),
        (2, r.ChildEnded("3", "order-2:3", "failed", Raw(b"null"), error)),
        (2, r.CompensationAdded("1", "notify", Raw(b"[[],{}]"))),
        (2, r.StepScheduled("2", "ship", ARGS)),
        (2, r.StepFailed("2", "ship", error, defect=False)),
        (2, r.RunCompensating(error)),
        (2, r.CompensationScheduled("0!", "refund", ARGS)),
        (2, r.CompensationFailed("0!", "refund", error, 1, BEGAN + SECOND)),
        (2, r.TimerFired("0!")),
        (2, r.CompensationCompleted("0!", "refund", Raw(b"null"), 2)),
        (2, r.RunFailed(error)),
        # 3: cancelled; 4: blocked, with an unknown outcome; 5: resolved, paused, waiting for a signal
        (3, r.RunStarted("order-3", "checkout", Raw(b"1"), queue="slow")),
        (3, r.RunCancelRequested("changed my mind", "uid:0", "t3")),
        (3, r.RunCancelled("changed my mind")),
        (4, r.RunStarted("order-4", "checkout", Raw(b"1"), session_id="session-2")),
        (4, r.StepScheduled("0", "charge", ARGS)),
        (4, r.StepUnknown("0", "charge", 1, "the process ended")),
        (4, r.RunBlocked("outcome_unknown", "charge may have happened", "0", "Traceback ...")),
        (5, r.RunStarted("order-5", "ship", Raw(b"1"))),
        (5, r.RunBlocked("code_error", "TypeError: no", "0")),
        (5, r.RunRetried("uid:0", "mended", "t4")),
        (5, r.StepResolved("0", True, Raw(b'"ch_5"'), "uid:0", "asked the bank", "t4")),
        (5, r.TimerSet("1", later)),
        (5, r.RunWaiting("signal", later, [OpenCallData("1", "signal", "go")])),
        (5, r.RunPaused("uid:0", "wait for ann")),
        (5, r.RunResumed("uid:0", "ann is back")),
        (5, r.RunPaused("uid:0", "ann left")),
        (6, r.RunStarted("order-7", "ship", Raw(b"1"))),
        (6, r.RunContinued("0", r.RunStarted("order-7", "ship", Raw(b"2")), 1, {"go": [Raw(b"1")]})),
        (8, r.RunStarted("order-5:f4", "ship", Raw(b"1"), attributes={"city": "Oslo"}, by="uid:0")),
        (8, r.RunForked("order-5", 4, [
            PastRecord(1, BEGAN, r.RunStarted("order-5", "ship", Raw(b"1"))),
            PastRecord(2, BEGAN, r.StepScheduled("0", "charge", ARGS)),
            PastRecord(4, BEGAN + SECOND, r.StepCompleted("0", "charge", Raw(b'"ch_5"'))),
        ], "uid:0", "the street is there now")),
    ]  # fmt: skip


def story() -> list[tuple[int, Record]]:
    """Every kind of record, in lives that a runtime could have led: (run key, record)."""
    later = BEGAN + 3600 * SECOND
    return [
        (0, r.DaemonStarted("0.1.0", 4711)),
        *openings(later),
        *completed(later),
        *others(later),
        # 7: starts later; the rest of the daemon's life
        (7, r.RunStarted("order-6", "ship", Raw(b"1"), start_at=later)),
        (0, r.StateWritten("", "global", "gone", 1, Raw(b"1"))),
        (0, r.StateWritten("", "global", "gone", 2, deleted=True, by="uid:0")),
        (0, r.SessionTouched("session-1", later + SECOND, "uid:0")),
        (0, r.SessionClosed("session-2", "done", "uid:0")),
        (0, r.SessionExpired("session-3")),
        *intake(later),
        *care(later),
        (0, r.DaemonStopped("SIGTERM")),
    ]  # fmt: skip


def entries() -> list[Entry]:
    """The story, numbered."""
    last: dict[int, int] = {}
    numbered = []
    for seq, (run_key, record) in enumerate(story(), 1):
        numbered.append(Entry(seq, run_key, last.get(run_key, 0), BEGAN + seq * SECOND, record))
        if run_key:
            last[run_key] = seq
    return numbered


def expectation(reader: Reader) -> dict[str, Any]:
    """What the journal says through its readers, as plain data."""
    run_ids = [run.id for run in reader.runs(limit=500).items]
    shown = {
        "head_seq": reader.head_seq(),
        "runs": [reader.run_view(id_) for id_ in run_ids],
        "counts": sorted([*key, n] for key, n in reader.counts().items()),
        "timers": reader.due_timers(),
        "sessions": reader.sessions(limit=500),
        "states": [reader.states("global"), reader.state("global", "gone")],
        "answer": reader.answer("uid:0", "key-1"),
        "signal": reader.signal_seen(1, "signal-1"),
        "approvals": reader.approval_page(),
        "found_by_attribute": reader.runs(attributes={"city": "Oslo"}),
        "events": reader.events(0),
    }
    since_2 = {
        "connectors": reader.connectors(),
        "streams": reader.streams(),
        "stored": reader.stored("people"),
        "delivered": sorted(reader.delivered("orders", ["7", "8", "9"])),
        "webhook": reader.delivery_seq("webhook:stripe", "evt_1"),
        "shape": reader.shape("crm", "people"),
        "tokens": reader.tokens(),
    }
    shown |= {name: value for name, value in since_2.items() if value}  # there was none of it before schema 2
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(shown))
    return plain


def make(name: str, folder: Path = HERE) -> None:
    """Write the journal and what is to be read in it."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "journal.db"
        with Journal.open(path) as journal:
            journal._db.execute("update meta set value = ? where key = 'created_at'", (BEGAN,))
            batch = entries()
            for start in range(0, len(batch), 7):
                journal.commit(batch[start : start + 7])
            digest = journal.head.digest.hex()
        with Reader.open(path) as reader:
            expected = {"digest": digest, **expectation(reader)}
        (folder / f"{name}.db.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(expected), indent=1) + b"\n")


if __name__ == "__main__":
    make(*sys.argv[1:])
