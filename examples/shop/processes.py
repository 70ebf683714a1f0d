"""The processes of the shop: the outside (`payments.py`) and the daemon on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from examples import processes
from examples.processes import DaemonLost as DaemonLost

HERE = Path(__file__).resolve().parent


@asynccontextmanager
async def outside(ledger: Path, *, port: int = 0) -> AsyncIterator[str]:
    """Run the outside; yields its address."""
    async with processes.outside(HERE / "payments.py", "--ledger", str(ledger), "--port", str(port)) as address:
        yield address


class Daemon(processes.Daemon):
    """`runtimed serve` on the shop."""

    def __init__(self, data_dir: Path, shop_url: str, log: Path) -> None:
        super().__init__(HERE, data_dir, log, options=["--app", "flows:app"], environment={"SHOP_URL": shop_url})
