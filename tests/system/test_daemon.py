from __future__ import annotations

import os
import re
import resource
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.system.conftest import Running
from tests.system.daemon_process import END_SECONDS, HERE, Daemon
from wal import records as r
from wal.codec import decode_record
from wal.connections import open_reader

pytestmark = [pytest.mark.trio, pytest.mark.slow]


def records_of(daemon: Daemon) -> list[r.Fact]:
    connection = open_reader(daemon.data_dir / "journal.db")
    try:
        return [decode_record(row[0]) for row in connection.execute("select body from records order by seq")]
    finally:
        connection.close()


async def post(daemon: Daemon, path: str, body: Any) -> Any:
    async with daemon.client() as client:
        return (await client.post(path, json=body)).raise_for_status().json()


async def start_run(daemon: Daemon, workflow: str, value: Any = None, run_id: str = "one") -> None:
    await post(daemon, "/v1/runs", {"workflow": workflow, "input": value, "id": run_id})


# --- start ----------------------------------------------------------------------------------------------------------


async def test_it_starts_quickly(running: Running, figures: Callable[..., None]) -> None:
    """The first start, with an empty folder, and a second one; the figures are printed, not judged."""
    async with running(started=False) as daemon:
        first = await daemon.start()
        assert await daemon.stop() == 0
        figures("start", first_s=round(first, 2), second_s=round(await daemon.start(), 2))


async def test_it_raises_its_limit_of_open_files(running: Running) -> None:
    """A shell that gives few and allows more is no reason to turn connections away."""
    few = ("sh", "-c", 'ulimit -Sn 256; ulimit -Hn 3000; exec "$@"', "sh")
    async with running(wrapper=few) as daemon:
        assert resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE) == (3_000, 3_000)


async def test_no_core_file_is_left_of_it(running: Running) -> None:
    """Whatever the shell allows, the daemon and its writer leave no core file, which would hold secrets in use."""
    wide = ("sh", "-c", 'ulimit -Sc "$(ulimit -Hc)"; exec "$@"', "sh")
    async with running(wrapper=wide) as daemon:
        writer = daemon.writer_pid()
        assert writer is not None
        for pid in (daemon.pid, writer):
            assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)


async def test_a_second_daemon_ends_with_75_and_names_the_first(running: Running) -> None:
    """One daemon a data folder: the second exits 75 at once, naming the pid of the first, which does not notice."""
    async with running() as daemon:
        second = await trio.run_process(
            daemon.command, capture_stdout=True, capture_stderr=True, check=False, cwd=HERE, env=os.environ
        )
        assert second.returncode == 75, second.stderr
        assert f"pid {daemon.pid}" in second.stderr.decode()
        assert await daemon.status_of("/health/ready") == 200


async def test_the_socket_is_for_owner_and_group_and_goes_with_the_daemon(running: Running) -> None:
    """The unix socket has mode 0660 and is removed at the end."""
    async with running() as daemon:
        assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o660
        assert await daemon.stop() == 0
        assert not daemon.socket.exists()


async def test_tcp_serves_probes_and_metrics_to_all_and_the_rest_to_nobody(running: Running) -> None:
    """A TCP bind tells a load balancer how it is; everything else needs a token, of which there are none."""
    async with running(options=("--bind", "127.0.0.1:0", "--log-format", "json")) as daemon:
        port = re.findall(r"127\.0\.0\.1:(\d+)", daemon.log_tail())[-1]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for path in ("/health", "/health/ready", "/health/startup", "/livez", "/readyz", "/startupz", "/metrics"):
                assert (await client.get(path)).status_code == 200, path
            for path in ("/v1/runs", "/v1/events", "/v1/actors", "/openapi.json", "/health/detail"):
                assert (await client.get(path)).status_code in (401, 403), path
            refused = await client.post("/v1/runs", json={"workflow": "waiting"})
            assert refused.status_code in (401, 403)
            assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "command", [["-P", "-m", "runtimed"], ["-c", "import sys; from runtimed.__main__ import main; sys.exit(main())"]]
)
async def test_there_are_two_ways_to_call_it(command: list[str]) -> None:
    """As a module, and as what the console script calls; the script itself, where it is installed, is the second."""
    said = await trio.run_process([sys.executable, *command, "version"], capture_stdout=True, env=environment())
    assert re.search(r"\d+\.\d+\.\d+", said.stdout.decode())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}


# --- stop -----------------------------------------------------------------------------------------------------------


async def test_sigterm_lets_running_steps_finish(running: Running) -> None:
    """A step that is under way when SIGTERM comes finishes and is recorded; the exit is 0 and noted as clean."""
    async with running() as daemon:
        await start_run(daemon, "resting", 0.6)
        assert await daemon.stop() == 0
        kinds = [type(record) for record in records_of(daemon)]
        assert kinds.count(r.StepCompleted) == 1
        assert kinds[-1] is r.DaemonStopped
        await daemon.start()
        assert records_of(daemon)[-1] == r.DaemonStarted(version(), daemon.pid, clean=True)


def version() -> str:
    from runtimed.version import VERSION

    return VERSION


async def test_a_step_that_outlasts_the_drain_is_parked_and_repeated(running: Running) -> None:
    """What is not done within `drain_timeout` is given up, the exit is 0 all the same, and the step runs again."""
    async with running(options=("--drain-timeout", "0.2")) as daemon:
        await start_run(daemon, "yielding", 600.0)
        assert await daemon.stop() == 0
        assert not any(isinstance(record, r.StepCompleted) for record in records_of(daemon))
        await daemon.start()
        async with daemon.client() as client:
            assert (await client.get("/v1/runs/one/result?wait=25")).json() == 600.0
        assert [record.attempt for record in records_of(daemon) if isinstance(record, r.StepInterrupted)] == [1]


async def test_who_is_told_again_and_again_ends_as_cleanly(running: Running) -> None:
    """Signals that come while it closes, or after, change nothing: 0, with a clean end in the log, and never death by a
    signal, which a supervisor would take for a crash."""
    async with running() as daemon:
        with trio.fail_after(END_SECONDS):
            while daemon.process.poll() is None:
                for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                    daemon.send(number)
                await trio.sleep(0.001)
        assert await daemon.ended() == 0, daemon.log_tail()
        assert "stopped" in daemon.log_tail().splitlines()[-1]
        assert isinstance(records_of(daemon)[-1], r.DaemonStopped)


async def test_a_second_sigterm_hurries(running: Running) -> None:
    """The first SIGTERM would wait for a step of ten minutes; the second does not, and the end is as clean."""
    async with running(options=("--drain-timeout", "600")) as daemon:
        await start_run(daemon, "resting", 600.0)
        daemon.send(signal.SIGTERM)
        await daemon.notices.until("STOPPING=1")
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert isinstance(records_of(daemon)[-1], r.DaemonStopped)


async def test_steps_and_readers_that_stall_cannot_hold_up_the_drain(
    running: Running, figures: Callable[..., None]
) -> None:
    """With 100 steps at work and two clients that take nothing of an endless event stream, the drain ends within
    `drain_timeout` + 1 s, cleanly, and every one of the runs goes on after the restart (P11). A drain in which the
    machine stood still for a moment is tried again."""
    drain_timeout_s = 2.0
    tries_s: list[float] = []
    async with running(options=("--drain-timeout", str(drain_timeout_s))) as daemon:
        for number in range(4):
            runs = [{"workflow": "ending", "input": "x" * 2_000, "id": f"r{number}-{at}"} for at in range(500)]
            await post(daemon, "/v1/runs", runs)
        runs = [{"workflow": "resting", "input": 600.0, "id": f"at-work-{at}"} for at in range(100)]
        await post(daemon, "/v1/runs", runs)
        async with daemon.client() as client:
            metrics = (await client.get("/metrics")).text
        assert re.search(r'runtimed_runs\{status="running",workflow="resting"\} 100\.0', metrics), metrics
        while len(tries_s) < 3 and not any(took_s <= drain_timeout_s + 1.0 for took_s in tries_s):
            tries_s.append(await drained_beside_stalled(daemon))
            records = records_of(daemon)
            assert isinstance(records[-1], r.DaemonStopped)
            assert not any(isinstance(record, r.StepCompleted) for record in records)
            await daemon.start()
            async with daemon.client() as client:
                assert (await client.get("/v1/runs?status=running&limit=1")).json()["total"] == 100
    figures("P11", drain_s=round(min(tries_s), 2), drain_timeout_s=drain_timeout_s)
    assert drain_timeout_s - 0.2 < tries_s[0]
    assert min(tries_s) <= drain_timeout_s + 1.0


async def drained_beside_stalled(daemon: Daemon) -> float:
    """Stop a daemon that has two clients who take nothing; the seconds that it took. It must end cleanly."""
    async with await stalled(daemon), await stalled(daemon):
        began = trio.current_time()
        assert await daemon.stop() == 0
        return trio.current_time() - began


async def stalled(daemon: Daemon) -> trio.SocketStream:
    """A client that asks for all events, takes the head of the answer, and reads no more."""
    stream = await trio.open_unix_socket(str(daemon.socket))
    await stream.send_all(b"GET /v1/events?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 200")
    return stream


async def test_readiness_fails_first_while_a_balancer_looks_away(running: Running) -> None:
    """With a `drain_delay`, readiness fails and requests are still answered before the listener closes; it ends by
    itself, and a second SIGTERM ends it early."""
    async with running(options=("--drain-delay", "600")) as daemon:
        daemon.send(signal.SIGTERM)
        await daemon.notices.until("STOPPING=1")
        assert await daemon.status_of("/health/ready") == 503
        assert await daemon.status_of("/health") == 200
        assert await daemon.status_of("/v1/runs") == 200
        await start_run(daemon, "waiting")
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert r.RunStarted in {type(record) for record in records_of(daemon)}
        daemon.command[-1] = "0.1"
        await daemon.start()
        assert await daemon.stop() == 0


# --- other signals and the service manager -----------------------------------------------------------------------


async def test_sighup_with_a_bad_file_changes_nothing(running: Running, short_dir: Path) -> None:
    """A reload is all or nothing: a bad file is named to the service manager, and the daemon goes on as it was."""
    config = short_dir / "runtimed.toml"
    config.write_text('[log]\nlevel = "info"\n')
    async with running(options=("--config", str(config))) as daemon:
        config.write_text('[log]\nlevel = "deafening"\n')
        daemon.send(signal.SIGHUP)
        await daemon.notices.until("RELOADING=1")
        said = await daemon.notices.until("READY=1")
        assert "reload refused" in said
        assert "log.level" in said
        assert await daemon.status_of("/health/ready") == 200
        config.write_text('[journal]\nbackup_dir = "~no-such-user/b"\n')
        daemon.send(signal.SIGHUP)
        assert "journal.backup_dir" in await daemon.notices.until("READY=1")
        config.write_text('[log]\nlevel = "info"\n[limits]\nthreads_max = 7\n')
        daemon.send(signal.SIGHUP)
        assert "refused" not in await daemon.notices.until("READY=1")
        assert "limits" in daemon.log_tail()  # that one needs a restart, and is named


async def test_sigusr1_shows_what_it_does(running: Running) -> None:
    """SIGUSR1 writes the tree of tasks to the log: for the moment when somebody asks what it is doing."""
    async with running() as daemon:
        daemon.send(signal.SIGUSR1)
        assert await daemon.status_of("/health") == 200
        daemon.send(signal.SIGHUP)  # when this is answered, that is done
        await daemon.notices.until("READY=1")
        log = daemon.log_tail()
        for task in ("root/journal", "root/engine/coordinator", "root/sessions"):
            assert task in log


async def test_no_level_hides_what_somebody_waits_for(running: Running) -> None:
    """With errors alone in the log there are still the line that says it is ready, and the tasks for SIGUSR1."""
    async with running(environ={"RUNTIMED__LOG__LEVEL": "error"}) as daemon:
        daemon.send(signal.SIGUSR1)
        assert await daemon.status_of("/health") == 200
        daemon.send(signal.SIGHUP)  # when this is answered, that is done
        await daemon.notices.until("READY=1")
        ready, tasks = daemon.log_tail().splitlines()
        assert f"is ready (pid {daemon.pid}) on " in ready
        assert "root/journal" in tasks


async def test_it_tells_its_service_manager_how_it_is(running: Running) -> None:
    """READY when ready, WATCHDOG at half the period, STOPPING at the beginning of the end."""
    async with running(environ={"WATCHDOG_USEC": "200000"}) as daemon:
        with trio.fail_after(END_SECONDS):
            for _ in range(3):
                await daemon.notices.until("WATCHDOG=1")
        daemon.send(signal.SIGTERM)
        await daemon.notices.until("STOPPING=1")
        assert await daemon.ended() == 0
        assert daemon.notices.states[0].startswith("READY=1")


# --- the writer -----------------------------------------------------------------------------------------------------


async def test_without_its_writer_it_acknowledges_nothing_and_ends(running: Running) -> None:
    """When the writer is killed the daemon ends by itself, non-zero, and no request in between is acknowledged."""
    async with running() as daemon:
        writer = daemon.writer_pid()
        assert writer is not None
        answers: list[int] = []
        os.kill(writer, signal.SIGKILL)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(_post_and_note, daemon, answers)
            assert await daemon.ended() not in (0, -signal.SIGKILL)
        assert set(answers) <= {503}  # or no answer, which claims nothing; and no 500, for nothing is wrong with us
        await daemon.start()
        assert await daemon.status_of("/health/ready") == 200


async def test_an_idle_daemon_notices_that_its_writer_is_gone(running: Running) -> None:
    """Also with nothing to commit: a service without its journal must not look alive."""
    async with running() as daemon:
        writer = daemon.writer_pid()
        assert writer is not None
        os.kill(writer, signal.SIGKILL)
        assert await daemon.ended() not in (0, -signal.SIGKILL)


async def test_a_writer_that_hangs_fails_liveness(running: Running) -> None:
    """A writer that stands still: liveness fails, and the watchdog is not fed any more."""
    async with running(started=False, environ={"WATCHDOG_USEC": "200000"}) as daemon:
        daemon.be_impatient()
        await daemon.start()
        writer = daemon.writer_pid()
        assert writer is not None
        os.kill(writer, signal.SIGSTOP)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_post_and_note, daemon, [])
                await daemon.until("/health", 503)
                daemon.notices.taken()  # from before that answer
                await trio.sleep(0.5)  # of which a tenth is the period of feeding
                assert not [state for state in daemon.notices.taken() if state.startswith("WATCHDOG")]
                nursery.cancel_scope.cancel()
        finally:
            os.kill(writer, signal.SIGCONT)


async def test_a_writer_that_hangs_ends_the_daemon(running: Running) -> None:
    """A writer that stands still: after the time limit the daemon ends non-zero, having acknowledged nothing, and
    leaves no writer behind."""
    async with running(started=False) as daemon:
        daemon.be_impatient()
        await daemon.start()
        writer = daemon.writer_pid()
        assert writer is not None
        daemon.send(signal.SIGUSR2)  # from now on it gives up soon
        os.kill(writer, signal.SIGSTOP)
        answers: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_post_and_note, daemon, answers)
            assert await daemon.ended() not in (0, -signal.SIGKILL)
        assert set(answers) <= {503}
        with pytest.raises(ProcessLookupError):  # it was not left behind, holding the journal's lock
            os.kill(writer, 0)


async def _post_and_note(daemon: Daemon, answers: list[int]) -> None:
    async with daemon.client() as client:
        try:
            answers.append((await client.post("/v1/runs", json={"workflow": "waiting"})).status_code)
        except httpx2.TransportError:
            pass  # no answer, which claims nothing
