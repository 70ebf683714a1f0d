"""A daemon for a test, gone after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.system.daemon_process import Daemon

Running = Callable[..., AbstractAsyncContextManager[Daemon]]
QUICK = {"RUNTIMED__JOURNAL__BALLAST_BYTES": "0"}  # writing it out is most of a first start


@pytest.fixture
def running(short_dir: Path) -> Running:
    """`async with running(**options) as daemon`: a daemon that is ready inside the block and killed at its end."""

    @asynccontextmanager
    async def run(
        *, started: bool = True, environ: dict[str, str] | None = None, **options: Any
    ) -> AsyncIterator[Daemon]:
        options.setdefault("app", "daemon_flows:app")
        daemon = Daemon(short_dir, environ={**QUICK, **(environ or {})}, **options)
        try:
            if started:
                await daemon.start()
            yield daemon
        finally:
            with trio.CancelScope(shield=True):
                await daemon.close()

    return run
