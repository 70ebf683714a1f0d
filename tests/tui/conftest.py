"""The dashboard under test: on asyncio, with a daemon that plays a script."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Textual runs on asyncio alone."""
    return "asyncio"
