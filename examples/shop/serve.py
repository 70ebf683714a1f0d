"""The daemon on the example shop, in the foreground until Ctrl-C, with the outside beside it: `make serve`.

The data stays in `.shop-data/` in the current folder, so that a second `make serve` finds the runs of the first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from examples.shop.processes import HERE

DATA = Path(".shop-data").resolve()


def main() -> int:
    """Run the outside in the background and the daemon in the foreground; returns the daemon's exit code."""
    DATA.mkdir(mode=0o700, exist_ok=True)
    outside_command = [sys.executable, str(HERE / "payments.py"), "--ledger", str(DATA / "ledger.jsonl"), "--until-eof"]
    # A session of its own: Ctrl-C is for the daemon, whose last steps still want an answer. It ends with its stdin.
    pipe = subprocess.PIPE
    with subprocess.Popen(outside_command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as outside:
        assert outside.stdout is not None
        address = outside.stdout.readline().strip()
        serve = [sys.executable, "-P", "-m", "runtimed", "serve", "--config", "runtimed.toml", "--data-dir", str(DATA)]
        print(f"payment provider, warehouse and carrier are at {address}; the socket is {DATA / 'runtimed.sock'}")
        print("from another terminal, in this folder, orders to look at, and the dashboard:")
        print("  .venv/bin/python -m examples.shop.feed")
        print("  .venv/bin/runtimed tui --data-dir .shop-data", flush=True)
        with subprocess.Popen(serve, cwd=HERE, env={**os.environ, "SHOP_URL": address}) as daemon:
            while True:
                try:
                    return daemon.wait()
                except KeyboardInterrupt:
                    continue  # the terminal sent it to the daemon too, which drains; a second one hurries it


if __name__ == "__main__":
    sys.exit(main())
