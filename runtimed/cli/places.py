"""Who holds a data folder, and what this user may see of it: under systemd it is closed to all but the service."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def is_closed(path: Path) -> bool:
    """Whether rights keep this user from reading what is at a path: its own, or those of a folder above it."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return isinstance(error, PermissionError)
    return not os.access(path, os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK)


def lock_holder(lock: Path) -> int | None:
    """The pid that holds the folder's lock, read from the kernel's table: trying the lock could stop a daemon that
    starts at this moment. None also where this user may not see the lock."""
    try:
        inode = os.stat(lock).st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        parts = line.split()
        if "FLOCK" in parts and parts[-3].rpartition(":")[2] == str(inode):
            return int(parts[-4])
    return None
