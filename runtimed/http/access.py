"""Who calls, and what they may: the peer of a connection, the level it has, and the roles that approvals ask for."""

from __future__ import annotations

import enum
import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable, Mapping

import msgspec
import trio

from runtimed.settings import ConfigError, Levels, Settings, in_file

PEER_GROUPS_MAX = 256
"""Python's getsockopt takes at most 1024 bytes, and a gid has four; of a peer with more the primary group counts."""
ID_DIGITS_MAX = 10
"""Numbers of users and groups have 32 bits; what has more digits is nobody's."""
SO_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)
"""Linux 4.13 and later; the number is the same on x86, arm and riscv (asm-generic/socket.h)."""


class Level(enum.IntEnum):
    """What a caller may do; each level includes those before it."""

    PUBLIC = 0
    VIEWER = 1
    OPERATOR = 2
    APPROVER = 3
    ADMIN = 4


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Who a request is from: over the unix socket what the kernel attests, over TCP an address; and the token that it
    shows, if any. A token that is shown counts in place of the rest: who gives one wants to be seen as that."""

    local: bool
    uid: int = -1
    gid: int = -1
    pid: int = 0
    groups: tuple[int, ...] = ()
    address: str = ""
    token: str | None = None
    token_id: str = ""
    token_level: Level = Level.PUBLIC

    @property
    def by(self) -> str | None:
        """The caller's name in records, or None for a stranger."""
        if self.token is not None:
            return f"token:{self.token}"
        return f"uid:{self.uid}" if self.local else None


STRANGER = Peer(local=False)


def peer_of(sock: trio.socket.SocketType) -> Peer:
    """Who is at the other end of a socket. Raises OSError if it has gone."""
    if sock.family != socket.AF_UNIX:
        return Peer(local=False, address=str(sock.getpeername()[0]))
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer(local=True, uid=uid, gid=gid, pid=pid, groups=_groups(sock))


def _groups(sock: trio.socket.SocketType) -> tuple[int, ...]:
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * PEER_GROUPS_MAX)
    except OSError:  # an older kernel, or more groups than fit: the primary group alone counts
        return ()
    return struct.unpack(f"{len(packed) // 4}I", packed)


def _number(kind: str, name: str) -> int:
    return pwd.getpwnam(name).pw_uid if kind == "uid" else grp.getgrnam(name).gr_gid


class Access:
    """The levels and roles of principals. Root and the daemon's own user are always admin. Raises `ConfigError`."""

    def __init__(
        self,
        levels: Mapping[str, Iterable[str]] | Levels = Levels(),  # noqa: B008 - frozen
        groups: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        named = msgspec.structs.asdict(levels) if isinstance(levels, Levels) else levels
        self._masters = frozenset((0, os.geteuid()))
        self._uids = dict.fromkeys(self._masters, Level.ADMIN)
        self._gids: dict[int, Level] = {}
        self._tokens: dict[str, Level] = {}
        self._roles: dict[tuple[str, int | str], set[str]] = {}
        for name, principals in named.items():
            for principal in principals:
                self._put(principal, name)
        for role, principals in (groups or {}).items():
            for principal in principals:
                self._put_role(principal, role)

    def _put(self, principal: str, name: str) -> None:
        level = Level[name.upper()]
        kind, _, who = principal.partition(":")
        if kind == "token":
            self._tokens[who] = max(level, self._tokens.get(who, level))
            return
        known = self._uids if kind == "uid" else self._gids
        number = _resolve(f"access.levels.{name}", kind, who)
        known[number] = max(level, known.get(number, level))

    def _put_role(self, principal: str, role: str) -> None:
        kind, _, who = principal.partition(":")
        whom = who if kind == "token" else _resolve(f"access.groups.{role}", kind, who)
        self._roles.setdefault((kind, whom), set()).add(role)

    def level(self, peer: Peer) -> Level:
        """What a peer may do. A token has the role that it was made with, or more if the settings say so; without one
        nobody is known over TCP, and only public routes are served."""
        if peer.token is not None:
            return max(peer.token_level, self._tokens.get(peer.token, Level.PUBLIC))
        if not peer.local:
            return Level.PUBLIC
        found = self._uids.get(peer.uid, Level.PUBLIC)
        if self._gids:
            found = max(found, *(self._gids.get(gid, Level.PUBLIC) for gid in (peer.gid, *peer.groups)))
        return found

    def roles(self, peer: Peer) -> frozenset[str] | None:
        """The groups of `[access.groups]` that a peer is in; None stands for all of them, which root and the daemon's
        own user have: they could write the file itself. A token has those that name it."""
        if peer.token is not None:
            return frozenset(self._roles.get(("token", peer.token), ()))
        if not peer.local:
            return frozenset()
        if peer.uid in self._masters:
            return None
        principals = [("uid", peer.uid), *(("gid", gid) for gid in (peer.gid, *peer.groups))]
        return frozenset().union(*(self._roles.get(principal, ()) for principal in principals))


def _resolve(where: str, kind: str, who: str) -> int:
    try:
        return int(who) if who.isdecimal() and len(who) <= ID_DIGITS_MAX else _number(kind, who)
    except KeyError:
        what = "user" if kind == "uid" else "group"
        raise ConfigError(
            f"{where}: there is no {what} {who[:80]!r}, expected the number of one, or the name of one on this host"
        ) from None


def access_of(settings: Settings) -> Access:
    """Who may what by these settings, as the daemon has it. Raises `ConfigError` naming file and key."""
    try:
        return Access(settings.access.levels, settings.access.groups)
    except ConfigError as error:
        raise in_file(error, settings) from None
