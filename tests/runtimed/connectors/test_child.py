from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio

from actors.errors import SourceError, SourceGarbled, SourceRefused
from runtimed.connectors.child import STDERR_TAIL_BYTES, Child, environment, find_command

PATIENCE_S = 30.0


def start(folder: Path, code: str, grace_s: float = 5.0) -> Child:
    command = [sys.executable, "-S", "-c", textwrap.dedent(code)]
    return Child.start(command, environ={"PATH": os.defpath}, folder=folder, grace_s=grace_s)


async def output(child: Child) -> bytes:
    whole = b""
    with trio.fail_after(PATIENCE_S):
        while chunk := await child.read(PATIENCE_S):
            whole += chunk
    return whole


def is_alive(pid: int) -> bool:
    """A zombie whose parent does not reap it counts as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_dead(*pids: int) -> None:
    """Wait for the end of processes that nobody of us is the parent of."""
    for pid in pids:
        try:
            exited = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            with trio.fail_after(PATIENCE_S):
                await trio.lowlevel.wait_readable(exited)
        finally:
            os.close(exited)


@pytest.mark.trio
@pytest.mark.slow
async def test_output_and_stderr_are_read(tmp_path: Path) -> None:
    """Output comes whole; of stderr the end is kept, in one line, with nothing in it that acts on a terminal."""
    code = """
        import sys
        sys.stderr.write("x" * 100_000 + "\\n\\x1b[2Jlast words\\n")
        sys.stdout.write("y" * 3_000_000)
        assert sys.stdin.read() == ""
    """
    async with start(tmp_path, code) as child:
        assert await output(child) == b"y" * 3_000_000
        await child.check_end(b"")
    assert child.stderr_tail.endswith("x | \\x1b[2Jlast words")
    assert len(child.stderr_tail) <= STDERR_TAIL_BYTES + 10


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "rest", "kind", "sentence"),
    [
        ("import sys; sys.exit('no luck')", b"", SourceError, "ended with code 1: no luck"),
        ("import os; os.kill(os.getpid(), 9)", b"", SourceError, "was ended by signal 9"),
        ("pass", b'{"ty', SourceGarbled, "ended in the middle of a line of 4 bytes"),
    ],
)
async def test_a_bad_end_says_how(tmp_path: Path, code: str, rest: bytes, kind: type[Exception], sentence: str) -> None:
    """An exit code, a signal, half a line: each is an error that says which, with the end of stderr."""
    async with start(tmp_path, code) as child:
        assert await output(child) == b""
        with pytest.raises(kind, match=sentence):
            await child.check_end(rest)


@pytest.mark.trio
@pytest.mark.slow
async def test_a_silent_child_is_told_from_an_ended_one(tmp_path: Path) -> None:
    """While nothing comes, `read` gives None when its time is up, and the child lives on."""
    code = "import sys, time; sys.stderr.write('hello'); sys.stderr.flush(); time.sleep(3600)"
    async with start(tmp_path, code) as child:
        with trio.fail_after(PATIENCE_S):
            while not child.stderr_tail:
                assert await child.read(0.01) is None
        assert is_alive(child.pid)
    assert not is_alive(child.pid)


STUBBORN = """
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(3600)"
    other = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
    other.stdout.read(1)
    print(os.getpid(), other.pid, flush=True)
    time.sleep(3600)
"""


@pytest.mark.trio
@pytest.mark.slow
async def test_leaving_ends_what_ignores_it(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed after the grace, and so is a grandchild in a session of its own."""
    async with start(tmp_path, STUBBORN, grace_s=0.05) as child:
        pids = [int(word) for word in (await child.read(PATIENCE_S) or b"").split()]
        assert all(map(is_alive, pids))
    assert not any(map(is_alive, [child.pid, *pids]))


@pytest.mark.trio
@pytest.mark.slow
async def test_cancelling_ends_the_child_with_sigterm(tmp_path: Path) -> None:
    """Whoever is cancelled while reading leaves no child; the child may tidy up at SIGTERM."""
    # Waited for, not handled: a signal that comes between the print and a sleep would not break the sleep off.
    code = f"""
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        print("ready", flush=True)
        signal.sigwait([signal.SIGTERM])
        open({str(tmp_path / "tidied")!r}, "w").close()
    """
    with trio.CancelScope() as scope:
        async with start(tmp_path, code, grace_s=PATIENCE_S) as child:
            assert await child.read(PATIENCE_S) == b"ready\n"
            scope.cancel()
            await child.read(PATIENCE_S)
    assert scope.cancelled_caught
    assert (tmp_path / "tidied").exists()
    assert not is_alive(child.pid)


@pytest.mark.trio
@pytest.mark.slow
async def test_the_end_of_a_child_is_the_end_of_its_grandchildren(tmp_path: Path) -> None:
    """A grandchild that holds the output open does not keep the output from ending."""
    code = """
        import subprocess, sys
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
        print(other.pid, flush=True)
    """
    async with start(tmp_path, code) as child:
        grandchild = int(await output(child))
        await child.check_end(b"")
        assert not is_alive(grandchild)


@pytest.mark.trio
@pytest.mark.slow
async def test_a_killed_guard_leaves_nothing(tmp_path: Path) -> None:
    """If the guard itself is killed, the kernel ends the command, and we the rest of its group."""
    code = """
        import os, subprocess, sys, time
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        print(os.getpid(), other.pid, flush=True)
        time.sleep(3600)
    """
    async with start(tmp_path, code) as child:
        pids = [int(word) for word in (await child.read(PATIENCE_S) or b"").split()]
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(SourceError, match="was ended by signal 9"):
            await child.check_end(b"")
    await until_dead(*pids)


@pytest.mark.trio
@pytest.mark.slow
async def test_kill_9_leaves_no_orphan(tmp_path: Path) -> None:
    """A daemon that is killed with -9 leaves no child and no grandchild, stubborn ones included."""
    daemon = f"""
        import sys, textwrap, trio
        from pathlib import Path
        from runtimed.connectors.child import Child
        async def main():
            command = [sys.executable, "-c", textwrap.dedent({STUBBORN!r})]
            async with Child.start(command, environ={{}}, folder=Path({str(tmp_path)!r}), grace_s=0.05) as child:
                print(child.pid, (await child.read(60)).decode().strip(), flush=True)
                await trio.sleep_forever()
        trio.run(main)
    """
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [sys.executable, "-P", "-c", textwrap.dedent(daemon)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout is not None
    with process.stdout:
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 3 and all(map(is_alive, pids))
        process.kill()
        process.wait()
    await until_dead(*pids)


def test_a_command_is_looked_up_in_its_own_environment_first(tmp_path: Path) -> None:
    """The connector's own virtual environment comes before PATH; what is nowhere is refused with a sentence."""
    own = tmp_path / "venv" / "bin" / "sh"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\n", encoding="utf-8")
    own.chmod(0o755)
    assert find_command(["sh", "-c"], tmp_path) == [str(own), "-c"]
    assert find_command(["sh"], None)[0].endswith("/sh")
    with pytest.raises(SourceRefused, match="no command 'no-such-tap'"):
        find_command(["no-such-tap"], tmp_path)
    with pytest.raises(SourceRefused, match="no command is given"):
        find_command([], tmp_path)


def test_the_environment_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the daemon's environment the way to the network is handed on, and nothing else."""
    monkeypatch.setenv("RUNTIMED__SECRET", "hidden")
    monkeypatch.setenv("NO_PROXY", "localhost")
    found = environment("/opt/tap/bin/tap", tmp_path, {"MODE": "test"})
    assert "RUNTIMED__SECRET" not in found
    assert found["PATH"].startswith("/opt/tap/bin:")
    assert (found["NO_PROXY"], found["MODE"], found["HOME"]) == ("localhost", "test", str(tmp_path))
