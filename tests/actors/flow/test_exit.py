"""A program ends, whatever code of a workflow had to be cut off in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import gc
from actors.flow import context, fibers  # in this order

from actors.flow.definitions import App
from actors.flow.driver import Flow
from actors.flow.run_info import RunInfo
from actors.flow.context import Context
from msgspec import Raw

app = App("deaf")

@app.workflow
async def deaf(ctx: Context) -> None:
    while True:
        try:
            await ctx.sleep(3600)
        except BaseException:
            pass

flow = Flow(deaf, RunInfo("run-1", "deaf", Raw(b"null")), {})
flow.begin(Context(flow, lambda *_: None), 0)
assert not flow.close()
gc.freeze()  # as in a daemon: what is frozen is taken apart name by name, not all at once
print("over")
"""


@pytest.mark.slow
def test_code_that_was_cut_off_does_not_outlive_its_program() -> None:
    """At the interpreter's end the names that such code uses are gone: it would catch that, too, and for ever."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"over\n")
