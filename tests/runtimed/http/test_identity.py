"""From where a peer acts: what can be read is told, what cannot is left out, and nothing of it decides anything."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from runtimed.http import identity
from runtimed.http.access import Access, Level, Peer
from runtimed.http.identity import describe, terminal_name, via_of
from runtimed.settings import ConfigError, Levels

US = Peer(local=True, uid=os.geteuid(), gid=os.getegid(), pid=os.getpid())


@pytest.fixture
def proc(tmp_path: Path) -> Any:
    """`proc(tty=, environ=)` makes a process's folder in a /proc of our own; gives the peer and that /proc."""

    def make(tty: int = 0, environ: bytes = b"", stat: bytes | None = None) -> tuple[Peer, Path]:
        folder = tmp_path / "77"
        folder.mkdir()
        (folder / "stat").write_bytes(stat or b"77 (a) b) S 1 77 77 %d -1 0" % tty)
        (folder / "environ").write_bytes(environ)
        return Peer(local=True, uid=os.geteuid(), pid=77), tmp_path

    return make


@pytest.mark.parametrize(
    ("major", "minor", "name"),
    [
        (136, 3, "pts/3"),
        (137, 0, "pts/256"),
        (4, 1, "tty1"),
        (4, 64, "ttyS0"),
        (5, 0, None),
        (0, 0, None),
        (204, 64, None),
    ],
)
def test_terminals_have_the_kernels_names(major: int, minor: int, name: str | None) -> None:
    """Device numbers become the names that `who` and `ps` show."""
    assert terminal_name(major, minor) == name


def test_name_terminal_and_ssh_peer(proc: Any) -> None:
    """All three, in one line; the process's name may hold anything."""
    peer, folder = proc(tty=os.makedev(136, 3), environ=b"HOME=/x\0SSH_CONNECTION=10.0.4.7 50000 10.0.0.1 22\0")
    assert describe(peer, folder) == f"{pwd.getpwuid(os.geteuid()).pw_name} pts/3 ssh 10.0.4.7"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"2001:db8::7 1 2 3", " ssh 2001:db8::7"),
        (b"fe80::1%eth0 1 2 3", " ssh fe80::1"),
        (b"\x1b[2J 1 2 3", ""),
        (b"alice 1 2 3", ""),
        (b"", ""),
        (b"\xff\xfe", ""),
        (b"10.0.4.7" + b"0" * 5000, ""),
    ],
)
def test_only_addresses_are_taken_from_the_environment(proc: Any, said: bytes, told: str) -> None:
    """The environment is the user's own: what is no address is not passed on."""
    peer, folder = proc(environ=b"SSH_CONNECTION=" + said + b"\0")
    assert describe(peer, folder) == pwd.getpwuid(os.geteuid()).pw_name + told


@pytest.mark.parametrize("stat", [b"", b"77 (x)", b"77 (x) S 1 2 3 many", b"\xff" * 100])
def test_what_cannot_be_read_is_left_out(proc: Any, stat: bytes) -> None:
    """A stat that is cut, odd or empty costs the terminal and nothing else."""
    peer, folder = proc(stat=stat or b" ")
    assert describe(peer, folder) == pwd.getpwuid(os.geteuid()).pw_name


def test_another_users_process_is_not_looked_at(proc: Any) -> None:
    """A process number that has gone to somebody else says nothing about the peer."""
    peer, folder = proc(tty=os.makedev(136, 3), environ=b"SSH_CONNECTION=10.0.4.7 1 2 3\0")
    other = Peer(local=True, uid=peer.uid + 4_000_000, pid=peer.pid)
    assert describe(other, folder) is None
    assert describe(Peer(local=True, uid=peer.uid, pid=0), folder) == describe(
        Peer(local=True, uid=peer.uid, pid=78), folder
    )


def test_names_are_sanitised_and_bounded(proc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory may hold any name: spaces, escapes and length of it do not get through."""
    peer, folder = proc(tty=os.makedev(136, 3))
    odd = pwd.struct_passwd(("a b\x1b]52;\n" + "x" * 500, "", peer.uid, 0, "", "", ""))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: odd)
    told = describe(peer, folder)
    assert told is not None and told.startswith("ab\\x1b]52;") and told.endswith("x pts/3")
    assert len(told) <= identity.VIA_CHARACTERS_MAX


@pytest.mark.trio
async def test_over_tcp_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger has no line; a peer of ours has one."""
    monkeypatch.setattr(identity, "LOOKUP_SECONDS_MAX", 30.0)
    assert await via_of(Peer(local=False, address="10.0.0.1")) is None
    assert await via_of(US) is not None


@pytest.mark.trio
async def test_a_directory_that_hangs_costs_half_a_second_and_the_names(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    """A look-up that does not come back is given up."""
    import threading

    release = threading.Event()
    monkeypatch.setattr(identity, "describe", lambda peer: release.wait(60))
    try:
        assert await via_of(US) is None
        assert trio.current_time() == 0.5
    finally:
        release.set()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_real_process() -> None:
    """The environment of a process of ours is read where the kernel lets us."""
    environ = {**os.environ, "SSH_CONNECTION": "192.0.2.9 5 6 7"}
    with subprocess.Popen([sys.executable, "-c", "print(1, flush=True); input()"], env=environ, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        told = describe(Peer(local=True, uid=os.geteuid(), pid=process.pid))
        process.communicate(b"\n")
    assert told is not None and told.endswith("ssh 192.0.2.9")


# --- roles ------------------------------------------------------------------------------------------------------------


def test_roles_are_the_groups_that_name_the_peer() -> None:
    """By uid, by primary and by further groups; several groups give several roles; a token means nothing here."""
    groups = {"ops": ["uid:4000001", "gid:4000002"], "finance": ["gid:4000003", "token:ci"], "empty": []}
    access = Access(Levels(), groups)

    def peer(uid: int, gid: int = 1, *more: int) -> Peer:
        return Peer(local=True, uid=uid, gid=gid, groups=more)

    assert access.roles(peer(4_000_001)) == frozenset({"ops"})
    assert access.roles(peer(4_000_009, 4_000_002)) == frozenset({"ops"})
    assert access.roles(peer(4_000_009, 1, 4_000_002, 4_000_003)) == frozenset({"ops", "finance"})
    assert access.roles(peer(4_000_009)) == frozenset()
    assert access.roles(Peer(local=False)) == frozenset()


def test_the_masters_have_all_roles() -> None:
    """Root and the daemon's own user; an admin by the file has the roles that the file gives."""
    access = Access(Levels(admin=("uid:4000001",)), {"ops": ["uid:4000002"]})
    assert access.roles(Peer(local=True, uid=0)) is None
    assert access.roles(US) is None
    named = Peer(local=True, uid=4_000_001)
    assert (access.level(named), access.roles(named)) == (Level.ADMIN, frozenset())


def test_groups_may_name_users_and_groups() -> None:
    """Names are looked up when the daemon starts; one that does not exist stops it, naming the group."""
    assert Access(Levels(), {"ops": ["gid:root"]}).roles(Peer(local=True, uid=4_000_009, gid=0)) == frozenset({"ops"})
    with pytest.raises(ConfigError, match=r"access\.groups\.ops: there is no user 'no-such'"):
        Access(Levels(), {"ops": ["uid:no-such"]})
