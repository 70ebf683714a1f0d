"""The client's verbs for the journal's care: how it stands, a backup, forgetting old runs."""

from __future__ import annotations

from typing import Any

from runtimed.client_link import Link, decode
from runtimed.wire import BackupView, CareView, ForgottenView


class CareVerbs:
    """Mixed into `Client`."""

    link: Link

    async def journal(self) -> CareView:
        """The last record, the last backup, and the open runs that nothing will wake, looked for now."""
        return decode(await self.link.get("/v1/journal"), CareView)

    async def backup(self, path: str | None = None, *, reason: str | None = None) -> BackupView:
        """Take a verified backup to an absolute path on the daemon's host, or into the folder of its settings. Answers
        when it is there: some 6 s a gigabyte, which may take a longer `timeout` of the client."""
        body: dict[str, Any] = {
            name: value for name, value in (("path", path), ("reason", reason)) if value is not None
        }
        return decode(await self.link.post("/v1/journal/backup", body), BackupView)

    async def forget_runs(
        self, older_than_s: float | None = None, *, dry_run: bool = False, reason: str | None = None
    ) -> ForgottenView:
        """Forget the runs that ended so many seconds ago, or as many days as the settings keep."""
        body: dict[str, Any] = {"dry_run": dry_run}
        body |= {key: v for key, v in (("older_than", older_than_s), ("reason", reason)) if v is not None}
        return decode(await self.link.post("/v1/journal/gc", body), ForgottenView)
