"""sd_notify: the datagrams that systemd expects, on paths and abstract names, and nothing without a socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimed.service_manager import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, short_dir: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(short_dir / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        if request.param == "abstract":
            listener.bind("\0" + name)
            name = "@" + name
        else:
            listener.bind(name)
        yield listener, name


def test_each_state_is_one_datagram(manager: tuple[socket.socket, str]) -> None:
    """READY, STATUS, STOPPING, WATCHDOG and the longer timeout are said in systemd's words."""
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})

    sent = [
        notifier.ready("serving"),
        notifier.status("3 runs"),
        notifier.stopping(),
        notifier.watchdog(),
        notifier.extend_timeout(1.5),
    ]

    assert all(sent)
    assert [listener.recv(4096) for _ in range(5)] == [
        b"READY=1\nSTATUS=serving",
        b"STATUS=3 runs",
        b"STOPPING=1",
        b"WATCHDOG=1",
        b"EXTEND_TIMEOUT_USEC=1500000",
    ]


def test_reloading_carries_the_monotonic_instant(manager: tuple[socket.socket, str]) -> None:
    """RELOADING needs MONOTONIC_USEC, or Type=notify-reload waits for ever."""
    listener, name = manager
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    assert Notifier({"NOTIFY_SOCKET": name}).reloading()

    first, _, second = listener.recv(4096).decode().partition("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert before <= int(second.split("=")[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_status_cannot_carry_another_message(manager: tuple[socket.socket, str]) -> None:
    """A line end in a status is escaped: it would be a state of its own."""
    listener, name = manager

    Notifier({"NOTIFY_SOCKET": name}).status("x\nWATCHDOG=trigger")

    assert listener.recv(4096) == b"STATUS=x\\x0aWATCHDOG=trigger"


@pytest.mark.parametrize("name", ["", "relative", "vsock:2:1", "/nonexistent/notify", "@nobody-listens-here"])
def test_without_a_manager_nothing_happens(name: str) -> None:
    """No socket, a foreign family or a dead socket: False, and never an exception."""
    notifier = Notifier({"NOTIFY_SOCKET": name} if name else {})

    assert [notifier.ready(), notifier.status("x"), notifier.status(""), notifier.watchdog()] == [False] * 4


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_per_period_if_it_is_meant_for_us(
    environ: dict[str, str], interval: float | None
) -> None:
    """Half of WATCHDOG_USEC, and only if WATCHDOG_PID is this process or not given."""
    assert Notifier(environ).watchdog_interval == interval
