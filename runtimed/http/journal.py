"""The journal's care: how it stands, a backup, forgetting old runs."""

from __future__ import annotations

from typing import Final

import msgspec

from runtimed.http.replies import Reply, json_reply
from runtimed.http.requests import Request
from runtimed.http.surface import RuntimeSurface
from runtimed.wire import BackupRequest, BackupView, CareView, ForgetRequest, ForgottenView, UnwakeableRun
from wal.backup import Backup
from wal.views import rfc3339

_BACKUP: Final = msgspec.json.Decoder(BackupRequest)
_FORGET: Final = msgspec.json.Decoder(ForgetRequest)


async def show(rt: RuntimeSurface, request: Request) -> Reply:
    """The last record, the last backup, and the open runs that nothing will wake, looked for now."""
    doubts = await rt.care.unwakeable_runs()
    last = rt.care.last_backup
    runs = [UnwakeableRun(doubt.run_id, doubt.why) for doubt in doubts]
    return json_reply(CareView(rt.feed.seq, None if last is None else _view(last), runs))


async def backup(rt: RuntimeSurface, request: Request) -> Reply:
    """Take a verified backup beside everything else; the answer comes when it is there."""
    body = await request.body()
    wanted = request.decode(_BACKUP, body)
    origin = request.origin(body)

    async def work() -> BackupView:
        done = await rt.care.backup(wanted.path)
        await rt.audit("journal.backup", wanted.path or "", origin, wanted.reason)
        return _view(done)

    return json_reply(await rt.once(origin, BackupView, work), 201)


async def forget(rt: RuntimeSurface, request: Request) -> Reply:
    """Forget ended runs of some age, or say how many that would be."""
    body = await request.body()
    wanted = request.decode(_FORGET, body)
    origin = request.origin(body)

    async def work() -> ForgottenView:
        rt.care.age_s(wanted.older_than)  # what is refused leaves no record
        if not wanted.dry_run:
            target = "" if wanted.older_than is None else f"older than {wanted.older_than:.0f} s"
            await rt.audit("journal.gc", target, origin, wanted.reason)
        swept = await rt.care.forget(wanted.older_than, dry_run=wanted.dry_run, by=origin.by)
        older_than = rfc3339(swept.older_than) or ""
        return ForgottenView(swept.runs, swept.records, older_than, swept.dry_run, swept.answers)

    return json_reply(await rt.once(origin, ForgottenView, work))


def _view(done: Backup) -> BackupView:
    return BackupView(done.path, done.seq, done.size_bytes, done.seconds, rfc3339(done.at) or "")
