"""The process between the daemon and other people's code: runs one command, and sees to it that nothing outlives it.

Run as a file (`python -I -S guard.py GRACE_S COMMAND...`) with nothing but the standard library, because it starts at
each poll. Its standard input is a pipe that only the daemon holds open: the end of that pipe, by a wish of the daemon
or by its death, ends the command with SIGTERM and, after GRACE_S seconds, with SIGKILL. A death signal from the kernel
would not do for the daemon (it follows the thread that started the child, and the daemon's threads come and go), but
this process has one thread: if it is killed itself, the command gets SIGKILL from the kernel.

It is also the reaper of all that the command leaves behind: a grandchild with a session of its own is found as well.
Exit code: the command's; 128 plus the signal's number if one ended it; 127 if it could not be started.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
NOT_STARTED = 127
ROUNDS_MAX = 10_000
"""So many times are leftovers killed, in case one keeps forking; the group's SIGKILL is the last word."""


def main(arguments: list[str]) -> int:
    """Run the command of these arguments to its end, or to the end of standard input; give its exit code."""
    grace_s, command = float(arguments[0]), arguments[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # A handler, not SIG_IGN: the command would inherit that it is ignored.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    child = _start(command, libc)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the daemon would see the end of the output only with ours
    code = _wait(child, grace_s)
    _kill_leftovers()
    return code


def _start(command: list[str], libc: ctypes.CDLL) -> int:
    guard = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(NOT_STARTED)  # the guard died before the line above
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(NOT_STARTED)


def _wait(child: int, grace_s: float) -> int:
    """Wait for the command; at the end of standard input, make it end."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(ended, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if ended in ready:
            return _code(child)
        if not os.read(0, 4096):
            break
    os.killpg(0, signal.SIGTERM)
    poll.unregister(0)
    poll.poll(grace_s * 1e3)
    os.kill(child, signal.SIGKILL)  # not reaped yet, so the id is its own
    return _code(child)


def _code(child: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def _kill_leftovers() -> None:
    """Kill what the command started and did not end. Whoever loses its parent becomes ours, so our children are all
    there is, round after round."""
    listing = f"/proc/self/task/{os.getpid()}/children"
    for _ in range(ROUNDS_MAX):
        try:
            with open(listing, encoding="ascii") as file:
                children = [int(word) for word in file.read().split()]
        except OSError:
            break  # a kernel without this list: the group alone
        for child in children:
            os.kill(child, signal.SIGKILL)
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            if not children:
                return
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
