"""`python -P -m wal FD PATH [OPTIONS]`: the writer process on an inherited socket; OPTIONS are JSON. Not for people."""

from __future__ import annotations

import signal
import sys

# Before the imports below take their tenths of a second: a signal to the whole process group must not end the writer.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(_number, signal.SIG_IGN)

import socket  # noqa: E402 - after the signals, see above

import msgspec  # noqa: E402 - after the signals, see above

from wal.options import JournalOptions  # noqa: E402 - after the signals, see above
from wal.writer import serve  # noqa: E402 - after the signals, see above


def main(arguments: list[str]) -> int:
    """Run the writer; the exit code of the process."""
    if not 2 <= len(arguments) <= 3:
        sys.stderr.write("usage: python -P -m wal FD PATH [OPTIONS]\n")
        return 2
    options = msgspec.json.decode(arguments[2] if len(arguments) == 3 else "{}", type=JournalOptions)
    with socket.socket(fileno=int(arguments[0])) as link:
        link.setblocking(True)  # the daemon's end may be non-blocking; the flag is the pair's own on each end
        return serve(link, arguments[1], options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
