"""From where a person of the unix socket acts: user name, terminal and ssh peer, as a line for votes and the audit.

The uid is what the kernel attests and what decides. This line only helps people to find each other: the user name is
the system's, the terminal the kernel's, and the ssh peer is what the client's environment says, which its user could
have changed. Whatever cannot be read is left out; nothing here fails a request or holds it for long.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
from pathlib import Path
from typing import Final

import trio

from runtimed.escape import escape
from runtimed.http.access import Peer

VIA_CHARACTERS_MAX: Final = 120
NAME_CHARACTERS_MAX: Final = 64
ENVIRON_BYTES_MAX: Final = 1 << 20
LOOKUP_SECONDS_MAX: Final = 0.5
"""A directory service that does not answer costs a decision this much, and the names."""
_LOOKUPS: Final = trio.CapacityLimiter(4)  # one that hangs keeps its thread: it must not take the readers' too

UNIX98_MAJORS: Final = range(136, 144)
CONSOLE_MAJOR: Final = 4
SERIAL_FROM: Final = 64
"""Device numbers of terminals, from the kernel's list (Documentation/admin-guide/devices.txt)."""


async def via_of(peer: Peer) -> str | None:
    """Where a peer acts from, such as `alice pts/3 ssh 10.0.4.7`; None where nothing is known. Never raises."""
    if not peer.local:
        return None
    with trio.move_on_after(LOOKUP_SECONDS_MAX):
        return await trio.to_thread.run_sync(describe, peer, limiter=_LOOKUPS, abandon_on_cancel=True)
    return None


class Place:
    """From where the client of one connection acts: looked up for its first change, and kept, because it is the same
    for all its requests. Never unknown: where nothing can be read, the kind of listener is told."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._via: str | None = None

    async def via(self) -> str:
        """A line such as `alice pts/3 ssh 10.0.4.7`, or the address of a client over TCP. Never raises."""
        if self._via is None:
            self._via = await via_of(self._peer) or self._peer.address or "unix socket"
        return self._via


def describe(peer: Peer, proc: Path = Path("/proc")) -> str | None:
    """The same, at once; it may wait for the system's user directory."""
    process = _process(peer, proc)
    parts = [_user_name(peer.uid)]
    if process is not None:
        parts += [_terminal(process), _ssh_peer(process)]
    return " ".join(part for part in parts if part)[:VIA_CHARACTERS_MAX] or None


def _user_name(uid: int) -> str | None:
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return None
    return "".join(escape(name).split())[:NAME_CHARACTERS_MAX]


def _process(peer: Peer, proc: Path) -> Path | None:
    """The client's folder in /proc. Its number may be another's by now; one of another user is not looked at."""
    if peer.pid <= 0:  # of another process namespace
        return None
    folder = proc / str(peer.pid)
    try:
        return folder if folder.stat().st_uid == peer.uid else None
    except OSError:
        return None


def _terminal(process: Path) -> str | None:
    """The controlling terminal: the seventh field of proc(5)'s stat, counted behind the name, which may hold spaces."""
    try:
        fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
        device = int(fields[4])
    except (OSError, ValueError, IndexError):
        return None
    return terminal_name(os.major(device), os.minor(device)) if device > 0 else None


def terminal_name(major: int, minor: int) -> str | None:
    """A terminal's name below /dev, for those that people sit at."""
    if major in UNIX98_MAJORS:
        return f"pts/{(major - UNIX98_MAJORS.start) * 256 + minor}"
    if major == CONSOLE_MAJOR:
        return f"tty{minor}" if minor < SERIAL_FROM else f"ttyS{minor - SERIAL_FROM}"
    return None


def _ssh_peer(process: Path) -> str | None:
    """The address that sshd put into the environment: only a real address is passed on."""
    try:
        with (process / "environ").open("rb") as file:
            environ = file.read(ENVIRON_BYTES_MAX).split(b"\0")
    except OSError:  # another user's, unless we are root
        return None
    said = next((entry[15:] for entry in environ if entry.startswith(b"SSH_CONNECTION=")), b"")
    try:
        address = ipaddress.ip_address(said.split(b" ")[0].decode("ascii").partition("%")[0])
    except ValueError:  # UnicodeDecodeError is one
        return None
    return f"ssh {address}"
