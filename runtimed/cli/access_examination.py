"""What `runtimed doctor` says of access: who is let in over TCP, and whether tokens and their key are in order."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterator
from pathlib import Path

from runtimed.cli.examinations import Finding
from runtimed.cli.places import is_closed
from runtimed.settings import Settings
from runtimed.token_key import CREDENTIAL, read_token_key
from runtimed.tokens import standing
from wal.errors import RuntimedError
from wal.tokens import TokenRow

SOON_S = 7 * 86_400.0
CREDSTORES = [
    Path(root) / name for root in ("/etc", "/run", "/usr/lib") for name in ("credstore", "credstore.encrypted")
]
"""Where systemd finds a service's credentials, which the shell that examines it was not given (systemd.exec(5))."""


def access(settings: Settings) -> Iterator[Finding]:
    """Whether the levels and groups are of people that there are, and access over TCP, in a sentence each."""
    yield from _people(settings)
    rows = _tokens(settings)
    now_us = time.time_ns() // 1_000
    active = [row for row in rows if standing(row, now_us) == "active"]
    address = settings.http.address
    if address is None:
        yield Finding("ok", "access", f"the unix socket alone{_counted(active)}")
    elif not active:
        what = f"{settings.http.bind} serves probes, metrics and webhooks only: there is no token that counts"
        yield Finding("ok", "access", what, next="For more: runtimed token create NAME --role viewer")
    elif _is_loopback(address[0]):
        yield Finding("ok", "access", f"{settings.http.bind}{_counted(active)}")
    else:
        why = "whoever can listen on the way can take a token and use it"
        what = f"{settings.http.bind} takes tokens in the clear, unless a proxy with TLS is before it"
        yield Finding("warn", "access", what, why, "Bind to loopback behind a proxy that speaks TLS.")
    yield from _expiring(rows, now_us)
    yield from _key(settings, active)


def _people(settings: Settings) -> Iterator[Finding]:
    from runtimed.http.access import access_of  # loads the event loop

    try:
        access_of(settings)
    except RuntimedError as error:
        yield Finding("fail", "access", str(error), "the daemon will not start; one that runs keeps what it has")


def _tokens(settings: Settings) -> list[TokenRow]:
    from wal.queries import Reader

    path = settings.paths.journal
    if not os.path.exists(path):
        return []
    try:
        with Reader.open(path) as reader:
            return reader.tokens()
    except RuntimedError:
        return []  # the journal has a finding of its own, which says why


def _counted(active: list[TokenRow]) -> str:
    return f", tokens: {len(active)}" if active else ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _expiring(rows: list[TokenRow], now_us: int) -> Iterator[Finding]:
    soon_us = now_us + int(SOON_S * 1e6)
    names = [
        row.name
        for row in rows
        if standing(row, now_us) == "active" and row.expires_at is not None and row.expires_at < soon_us
    ]
    if names:
        yield Finding(
            "warn", "tokens", f"{', '.join(names[:5])} will expire within a week", next="Make new ones in time."
        )


def _key(settings: Settings, active: list[TokenRow]) -> Iterator[Finding]:
    if not active:
        return
    try:
        folder = settings.paths.data_dir  # the daemon's user has it, who need not be ours: root examines a service
        key = read_token_key(folder, os.environ, owner=folder.stat().st_uid)
    except RuntimedError as error:
        yield Finding("fail", "tokens", str(error), "no token counts", error.hint)
        return
    stores = [store / CREDENTIAL for store in CREDSTORES]
    if key is not None or any(os.path.exists(path) for path in stores):
        return
    what, then = f"{settings.paths.data_dir / 'token.key'} is gone", "Put it back, or make new tokens."
    if any(is_closed(path) for path in stores):
        why = "no token counts, unless the service has it as a credential, which this user may not see"
        yield Finding("warn", "tokens", what, why, then)
    else:
        yield Finding("fail", "tokens", what, "no token counts", then)
