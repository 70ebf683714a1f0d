"""What `runtimed doctor` looks at. Nothing here changes anything, but for a small file that times the disk."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from runtimed import open_files
from runtimed.cli.places import is_closed, lock_holder
from runtimed.cli.shell import SYSTEM_SOCKET
from runtimed.settings import Settings
from runtimed.version import VERSION
from wal.errors import RuntimedError

FSYNC_TRIES = 15
FSYNC_TOO_FAST_MS, FSYNC_SLOW_MS = 0.02, 20.0
"""Below the first no disk flushes (a tmpfs, or one that lies); above the second each commit is felt."""
NETWORK_FILESYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "afs"}
ANSWER_SECONDS = 5.0
"""A daemon that takes longer to say how it is counts as one that does not answer."""
PACKAGES = ("apsw", "msgspec", "trio", "anyio", "hypercorn", "starlette")


class Finding(msgspec.Struct, frozen=True):
    """One thing examined. `level` is ok, warn or fail."""

    level: str
    subject: str
    what: str
    why: str = ""
    next: str = ""


def python() -> Finding:
    """The interpreter."""
    return Finding("ok", "versions", f"runtimed {VERSION}, Python {platform.python_version()}, {platform.platform()}")


def packages() -> Finding:
    """What is installed beside us."""
    missing, found = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("fail", "packages", f"missing: {', '.join(missing)}", next="Install the pinned requirements.")
    return Finding("ok", "packages", ", ".join(found))


def sqlite() -> Finding:
    """Whether the SQLite in use is one that keeps what it is given."""
    from wal.connections import checksum_vfs, guard_sqlite

    try:
        guard_sqlite()
    except RuntimedError as error:
        return Finding("fail", "sqlite", str(error), "the daemon will not start", error.hint)
    if checksum_vfs() is None:
        return Finding("warn", "sqlite", "page checksums are not available", "damage is found later", "Use the wheel.")
    return Finding("ok", "sqlite", "free of the WAL-reset bug, with page checksums")


def apps(settings: Settings) -> Iterator[Finding]:
    """Whether the apps load."""
    from runtimed.loading import load_apps

    try:
        loaded = load_apps(settings.daemon.apps, Path.cwd())
    except RuntimedError as error:
        yield Finding("fail", "apps", str(error), "the daemon will not start", error.hint)
        return
    named = ", ".join(f"{app.name} ({len(app.workflows)} workflows)" for app in loaded)
    if named:
        yield Finding("ok", "apps", named)
    else:
        yield Finding("warn", "apps", "none are configured", "no run can start", "Name one: --app flows.py")


def folder(settings: Settings) -> Iterator[Finding]:
    """The data folder: there, ours, on a local disk."""
    path = settings.paths.data_dir
    if is_closed(path) or (os.path.isdir(path) and not os.access(path, os.W_OK)):
        whose = f"it belongs to uid {os.stat(path).st_uid}" if os.path.exists(path) else "a folder above it is closed"
        why = f"{whose}, this is uid {os.getuid()}"
        yield Finding("fail", "data folder", f"{path} cannot be used", why, "Run as its owner, or use --data-dir.")
        return
    if not os.path.exists(path):
        yield Finding("ok", "data folder", f"{path} is not there yet; `runtimed serve` makes it")
        return
    if not os.path.isdir(path):
        yield Finding("fail", "data folder", f"{path} is not a folder", next="Name another with --data-dir.")
        return
    kind = _filesystem(path)
    if kind in NETWORK_FILESYSTEMS:
        why = "locks and SQLite's shared memory do not hold on network filesystems"
        yield Finding("fail", "data folder", f"{path} is on {kind}", why, "Use a local disk.")
    elif kind in ("tmpfs", "ramfs"):
        yield Finding("warn", "data folder", f"{path} is on {kind}", "a reboot loses it", "Use a disk.")
    else:
        yield Finding("ok", "data folder", f"{path} on {kind or 'an unknown filesystem'}")


def disk(settings: Settings) -> Iterator[Finding]:
    """Room, and the time a flush takes: it bounds how fast anything is acknowledged."""
    path = settings.paths.data_dir
    while not os.path.exists(path):
        path = path.parent
    free, least = shutil.disk_usage(path).free, settings.journal.disk_free_min_bytes
    free_text = f"{free / 1024**3:.1f} GiB free"
    if free < least:
        why = f"new work is refused below {least / 1024**2:.0f} MiB"
        yield Finding("fail", "disk", free_text, why, "Free some space.")
    else:
        yield Finding("ok", "disk", free_text)
    if not os.access(settings.paths.data_dir, os.W_OK):
        return
    milliseconds = _flush_ms(settings.paths.data_dir)
    told = f"a flush takes {milliseconds:.2f} ms (median of {FSYNC_TRIES})"
    if milliseconds < FSYNC_TOO_FAST_MS:
        why = "no disk is that fast: it is memory, or it only says that it has flushed"
        yield Finding("warn", "flush", told, why, "What was acknowledged may not survive a power cut here.")
    elif milliseconds > FSYNC_SLOW_MS:
        yield Finding("warn", "flush", told, "each commit waits for one", "Use a faster disk.")
    else:
        yield Finding("ok", "flush", told)


def daemon(settings: Settings) -> Iterator[Finding]:
    """Who holds the folder, and whether the socket answers."""
    holder = lock_holder(settings.paths.lock)
    socket = settings.paths.socket
    if holder is None and is_closed(settings.paths.data_dir):
        yield _daemon_unseen()
        return
    if holder is None:
        left = f"; {socket} is left of one that was killed, which is harmless" if os.path.exists(socket) else ""
        yield Finding("ok", "daemon", f"none is running on this folder{left}")
        return
    if not os.path.exists(socket):
        what, why = f"pid {holder} holds the folder, and is not at {socket}", "it is starting, or listens elsewhere"
        yield Finding("warn", "daemon", what, why, f"runtimed status --socket FILE, such as {SYSTEM_SOCKET}")
        return
    try:
        ready, reasons = _standing(socket)
    except RuntimedError as error:
        why = f"pid {holder} holds the folder, but: {error}"
        yield Finding("fail", "daemon", "it does not answer", why, "Look at its log; it may still be starting.")
        return
    why = "; ".join(reasons)
    if not ready:
        yield Finding("warn", "daemon", f"pid {holder} is not ready", why, "See more: runtimed status")
    elif why:
        yield Finding(
            "warn", "daemon", f"pid {holder} is ready, and has something to say", why, "Mend it, then look again."
        )
    else:
        yield Finding("ok", "daemon", f"pid {holder} is ready at {socket}")


def _daemon_unseen() -> Finding:
    """Where the folder is closed to us there may be a service, whose socket is not in it."""
    what = "whether one is running on this folder cannot be seen by this user"
    try:
        ready, _ = _standing(SYSTEM_SOCKET)
    except RuntimedError:
        return Finding("warn", "daemon", what, next="Run as the folder's owner.")
    standing = "is ready" if ready else "is not ready"
    return Finding("ok" if ready else "warn", "daemon", f"{what}; a service {standing} at {SYSTEM_SOCKET}")


def journal(settings: Settings) -> Iterator[Finding]:
    """Whether the file opens."""
    path = settings.paths.journal
    if not os.path.exists(path):
        return
    from wal.queries import Reader

    try:
        with Reader.open(path) as reader:
            told = reader.statistics()
    except RuntimedError as error:
        yield Finding("fail", "journal", str(error), next=error.hint)
        return
    sizes = f"{told.db_bytes / 1024**2:.1f} MiB and {told.wal_bytes / 1024**2:.1f} MiB in SQLite's WAL"
    yield Finding("ok", "journal", f"{told.seq} records, {told.runs_open} of {told.runs} runs open, {sizes}")


def limits(settings: Settings) -> Iterator[Finding]:
    """Whether the daemon may open as many files as its settings promise; without one, whether one started here may."""
    wanted, holder = open_files.wanted(settings.http.max_connections), lock_holder(settings.paths.lock)
    soft, hard = _files_max(holder)
    if holder is None:
        soft = open_files.attainable(soft, hard, wanted)  # it gives itself that when it starts
    if soft != resource.RLIM_INFINITY and soft < wanted:
        why = f"http.max_connections = {settings.http.max_connections} on two listeners needs about {wanted}"
        raise_it = "Raise the hard limit: LimitNOFILE= in the unit, ulimit -Hn; or lower http.max_connections."
        yield Finding("warn", "open files", f"at most {soft} (hard limit {hard})", why, raise_it)
    else:
        yield Finding("ok", "open files", f"at most {soft}")


# --- looking --------------------------------------------------------------------------------------------------------


def _files_max(pid: int | None) -> tuple[int, int]:
    """How many files a process may open: that one, or this one where there is none, or it cannot be seen."""
    try:
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii") if pid is not None else ""
        found = re.search(r"^Max open files +(\w+) +(\w+)", limits, re.MULTILINE)
    except OSError:  # it ended just now, or the kernel hides it
        found = None
    if found is None:
        return resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (resource.RLIM_INFINITY if each == "unlimited" else int(each) for each in found.groups())
    return soft, hard


def _filesystem(path: Path) -> str:
    """The type of the filesystem a path is on, from the mount table; empty if that cannot be read."""
    target, best = str(path.resolve()), ("", "")
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, mount, kind, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        if (target + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def _flush_ms(path: Path) -> float:
    """The median time of an fdatasync after a small write, in milliseconds."""
    times = []
    with tempfile.TemporaryFile(dir=path, prefix=".doctor-") as file:
        for _ in range(FSYNC_TRIES):
            os.write(file.fileno(), b"\0" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2] * 1000


def _standing(socket: Path) -> tuple[bool, list[str]]:
    """Whether the daemon takes work, and what it says of itself to those who may know."""
    import anyio

    from runtimed.client import Client

    async def main() -> tuple[bool, list[str]]:
        async with Client(socket=socket, timeout=ANSWER_SECONDS) as client:
            detail = await client.link.fetch("GET", "/health/detail")
            if detail.status in (200, 503) and "problem" not in detail.headers.get("content-type", ""):
                said = msgspec.json.decode(detail.body)
                return said["status"] != "fail", list(said["reasons"])
            return await client.ready(), []

    return anyio.run(main)
