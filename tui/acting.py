"""What a card asks of the daemon: one request under its own key, sent once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtimed.client import Client
from runtimed.client_errors import DaemonUnreachable
from runtimed.client_link import decode, part, succeeded
from runtimed.wire import AcceptedView
from wal.views import ApprovalView


async def act(client: Client | None, run_id: str, verb: str, body: Mapping[str, Any], key: str) -> int:
    """Ask something of a run; the seq of the record that it is on disk as. As `ask_once`."""
    return decode(await ask_once(client, f"/v1/runs/{part(run_id)}/{verb}", body, key), AcceptedView).seq


async def fork(client: Client | None, run_id: str, body: Mapping[str, Any], key: str) -> AcceptedView:
    """Ask for a fork of a run; the new run, and the record that its beginning is on disk as. As `ask_once`."""
    return decode(await ask_once(client, f"/v1/runs/{part(run_id)}/fork", body, key), AcceptedView)


async def ask_once(client: Client | None, path: str, body: Mapping[str, Any], key: str) -> bytes:
    """Ask something; what the daemon answers.

    Never sent a second time: where the connection breaks, `DaemonUnreachable` or `TimedOut` say that the outcome is not
    known, and the card looks for the key. Raises `RuntimedError`s.
    """
    if client is None:
        raise DaemonUnreachable("there is no connection to a daemon")
    answer = await client.link.fetch("POST", path, body=body, headers={"idempotency-key": key}, repeatable=False)
    return succeeded(answer).body


async def decide(client: Client, approval_id: str, body: Mapping[str, Any], key: str) -> ApprovalView:
    """Approve or refuse, as `ask_once`; the approval as it then is, on disk. Raises `RuntimedError`s."""
    return decode(await ask_once(client, f"/v1/approvals/{part(approval_id)}/decide", body, key), ApprovalView)
