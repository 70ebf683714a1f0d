"""What a card asks of the daemon: one request under its own key, sent once."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Any

from runtimed.client import Client
from runtimed.client_errors import DaemonUnreachable
from runtimed.client_link import decode, part, succeeded
from runtimed.wire import AcceptedView


async def act(client: Client | None, run_id: str, verb: str, body: Mapping[str, Any], key: str) -> int:
    """Ask something of a run; the seq of the record that it is on disk as.

    Never sent a second time: where the connection breaks, `DaemonUnreachable` or `TimedOut` say that the outcome is not
    known, and the card looks for the key. Raises `RuntimedError`s.
    """
    if client is None:
        raise DaemonUnreachable("there is no connection to a daemon")
    answer = await client.link.fetch(
        "POST", f"/v1/runs/{part(run_id)}/{verb}", body=body, headers={"idempotency-key": key}, repeatable=False
    )
    return decode(succeeded(answer).body, AcceptedView).seq


def who() -> str:
    """Who sits here, for people to read: the daemon asks the kernel and takes nobody's word."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "?"
    words = [f"as {name}", f"uid {uid}"]
    peer = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    if peer:
        words.append(f"ssh {peer[:40]}")
    try:
        words.append(os.ttyname(0).removeprefix("/dev/"))
    except OSError:
        pass  # no terminal, as in a test
    return "  ".join(words)
