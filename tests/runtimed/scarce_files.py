"""A program that uses up its file descriptors while a run wakes and a step that is never repeated is at work.

It prints, as JSON, how the two runs stand and which actors were restarted."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

import trio

from runtimed import App, Context, open_runtime
from runtimed.runtime import Runtime
from runtimed.settings import Journal, Limits, Settings

FILES_MAX = 96
PATIENCE_S = 30.0

app = App("scarce")
wired, rested, long_list_ends = trio.Event(), trio.Event(), threading.Event()


@app.step(delivery="at_most_once")
async def wire() -> str:
    """Begin to pay, and be done when the others are."""
    wired.set()
    await rested.wait()
    return "wired"


@app.workflow
async def pay(ctx: Context) -> str:
    """Pay once, or never."""
    return await ctx.step(wire)


@app.workflow
async def nap(ctx: Context) -> str:
    """Sleep for long enough to be put away."""
    await ctx.sleep(1.0)
    return "rested"


@contextlib.contextmanager
def files_used_up() -> Any:
    """No descriptor is left inside, as when many connections do nothing."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, hard))
    held: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    try:
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)


async def scene(rt: Runtime) -> None:
    """A run sleeps and is put away, another pays; there are no files; somebody reads a long list; the first wakes."""
    sleeper = await rt.start(nap, id="nap")
    while rt.actors.coordinator.statistics().active:  # noqa: ASYNC110 - that a run was put away has no event
        await trio.sleep(0.02)
    await rt.start(pay, id="pay")
    await wired.wait()
    with files_used_up():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.read, lambda reader: long_list_ends.wait(PATIENCE_S))
            try:
                await sleeper.result(PATIENCE_S)
            finally:
                long_list_ends.set()
        rested.set()
        await rt.result("pay", PATIENCE_S)


async def main(folder: Path) -> None:
    """Play the scene and tell how it ended."""
    settings = Settings(journal=Journal(ballast_bytes=0), limits=Limits(park_after=0.1))
    async with open_runtime(app, folder, settings=settings) as rt:
        failed = ""
        try:
            with trio.fail_after(PATIENCE_S):
                await scene(rt)
        except Exception as error:  # noqa: BLE001 - whatever it was, the test is to hear of it
            failed = repr(error)
        told = {
            "runs": {name: await rt.status(name) for name in ("nap", "pay")},
            "restarted": [actor.path for actor in rt.tree() if actor.restarts],
            "failed": failed,
        }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
