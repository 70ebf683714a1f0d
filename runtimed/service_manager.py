"""Telling systemd how the service is: readiness, status, reload, stop and the watchdog (sd_notify(3)).

Without `NOTIFY_SOCKET` everything here does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from runtimed.escape import escape

STATUS_CHARACTERS_MAX = 500


class Notifier:
    """Sends states to the service manager. Never blocks and never raises: each call says whether it was sent."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_interval = _watchdog_interval(environ)
        """Seconds between two feedings, half of what the service manager allows; None if it does not watch."""

    def ready(self, status: str = "") -> bool:
        """The service is up, or has done its reload."""
        return self._send("READY=1", *_status(status))

    def status(self, status: str) -> bool:
        """What it does at the moment, for `systemctl status`."""
        return self._send(*_status(status))

    def reloading(self) -> bool:
        """The configuration is being read again; `ready` ends it. The instant lets systemd order messages."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> bool:
        """The service is on its way out."""
        return self._send("STOPPING=1", *_status(status))

    def watchdog(self) -> bool:
        """There was progress."""
        return self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> bool:
        """Starting or stopping goes on; allow this many seconds more from now."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, *lines: str) -> bool:
        if self._address is None or not lines:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError:  # a manager that is gone or full is no reason to fail; the watchdog is its answer to that
            return False
        return True


def _address(name: str) -> str | None:
    """A path, or an abstract name written with `@`; other families (vsock) are not for one host."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Half of WATCHDOG_USEC, as sd_watchdog_enabled(3) advises, if it is meant for this process."""
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
        meant = int(environ.get("WATCHDOG_PID") or os.getpid()) == os.getpid()
    except ValueError:
        return None
    return microseconds / 2 / 1_000_000 if meant and microseconds > 0 else None


def _status(text: str) -> list[str]:
    """One line: a line end in it would be a message of its own."""
    return [f"STATUS={escape(text)[:STATUS_CHARACTERS_MAX]}"] if text else []
