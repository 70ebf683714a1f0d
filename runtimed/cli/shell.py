"""What a command works with: its options, the daemon or the file to ask, and where its words go."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from actors.errors import InvalidInput
from runtimed.cli.places import is_closed, lock_holder
from runtimed.escape import escape, escape_json
from wal.errors import RuntimedError

if TYPE_CHECKING:
    from runtimed.cli.source import Offline, Source
    from runtimed.client import Client
    from runtimed.settings import Paths, Settings

T = TypeVar("T")

SYSTEM_SOCKET = Path("/run/runtimed/runtimed.sock")
"""Where the service's socket is under systemd, whose RUNTIME_DIRECTORY an operator's shell does not know."""
TOKEN_BYTES_MAX = 4096
PATIENT_SECONDS = 3_600.0
"""How long an answer is waited for that takes as long as the journal is large, unless --timeout says otherwise."""
WATCH_SECONDS = 2.0
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
"""Painting over line by line does not flicker, as clearing the whole screen first would."""
LINES_KEPT = 3
"""Of a repainted screen, for remarks and the cursor."""
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""The trace of whoever runs us, in the environment as OpenTelemetry has it; it goes with every request."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The global options, None for those not given."""

    output: str = "text"
    socket: str | None = None
    url: str | None = None
    token_file: str | None = None
    data_dir: str | None = None
    timeout: float | None = None
    no_color: bool = False
    quiet: bool = False
    verbose: bool = False


class News:
    """What a watching pipe has been told: a thing is told again only when it has changed, or went and came back."""

    def __init__(self) -> None:
        self._before: dict[str, bytes] = {}
        self._now: dict[str, bytes] = {}

    def begin(self) -> None:
        """Another look; what was not there in the last one is forgotten."""
        self._before, self._now = self._now, {}

    def failed(self) -> None:
        """This look saw nothing, because nobody answered; what was told before counts on."""
        self._now = self._before

    def tells(self, body: bytes) -> bool:
        """Whether this JSON is news."""
        thing = msgspec.json.decode(body)
        names = ("id", "key", "path", "name")
        key = next((str(thing[name]) for name in names if name in thing), "") if isinstance(thing, dict) else ""
        self._now[key] = body
        return self._before.get(key) != body


class Shell:
    """One command's world. Data goes to stdout, everything else to stderr."""

    def __init__(self, options: Options, environ: Mapping[str, str] | None = None) -> None:
        self.options = options
        self.environ = os.environ if environ is None else environ
        self._news: News | None = None
        self._repaints = False
        self._lines_left = 0
        if options.url and (options.socket or options.data_dir):
            raise InvalidInput("--url names a daemon elsewhere: give it without --socket and --data-dir")

    # --- words ----------------------------------------------------------------------------------------------------

    @property
    def output(self) -> str:
        """`text`, `json`, `jsonl` or `id`."""
        return self.options.output

    @cached_property
    def color(self) -> bool:
        """Whether stdout takes colours: a terminal, and nobody said no (https://no-color.org)."""
        plain = self.options.no_color or self.environ.get("NO_COLOR") or self.environ.get("TERM") == "dumb"
        return not plain and sys.stdout.isatty()

    def style(self, text: str, **how: Any) -> str:
        """Text with a colour or weight, if colours are on."""
        return click.style(text, **how) if self.color else text

    def print(self, text: str) -> None:
        """Data, on stdout. What is from outside must be escaped already."""
        if self._repaints:
            self._lines_left -= 1
            if self._lines_left >= 0:  # what does not fit would scroll the rest away
                click.echo(text + CLEAR_LINE, color=True)
        else:
            click.echo(text, color=self.color)

    def print_json(self, body: bytes) -> None:
        """JSON as it came, on one line; on a terminal with what could act on it escaped, as JSON can."""
        if self._news is not None and not self._news.tells(body):
            return
        if sys.stdout.isatty():
            body = escape_json(body.decode("utf-8", "replace")).encode()
        if self._repaints:
            self.print(body.decode())
        else:
            click.echo(body)

    def note(self, text: str) -> None:
        """A remark, on stderr; none with --quiet."""
        if not self.options.quiet:
            click.echo(escape(text, keep="\n") + (CLEAR_LINE if self._repaints else ""), err=True)

    def detail(self, text: str) -> None:
        """A remark for --verbose."""
        if self.options.verbose:
            self.note(text)

    # --- whom to ask ----------------------------------------------------------------------------------------------

    @cached_property
    def settings(self) -> Settings:
        """The settings as the daemon of this folder or data folder has them. Raises `ConfigError`."""
        from runtimed.settings import find_config, load

        flags = {"daemon.data_dir": self.options.data_dir}
        return load(find_config(self.environ, Path.cwd()), self.environ, flags)

    def socket(self) -> str:
        """The socket to talk to: the one named, the data folder's, or the service's."""
        if self.options.socket is not None:
            return self.options.socket
        own = self._places.socket
        service = os.path.exists(SYSTEM_SOCKET) or is_closed(SYSTEM_SOCKET)  # closed to us: then that is to be said
        if self.options.data_dir is None and not os.path.exists(own) and service:
            return str(SYSTEM_SOCKET)
        return str(own)

    @cached_property
    def _places(self) -> Paths:
        """Where the settings have things. Settings that became wrong do not hide a daemon that runs with those it has.
        Raises `ConfigError`."""
        from runtimed.settings import ConfigError, find_config, places

        try:
            return self.settings.paths
        except ConfigError as error:
            file = find_config(self.environ, Path.cwd())
            if file is None:
                raise
            paths = places(file, self.environ, self.options.data_dir)
            if not os.path.exists(paths.socket):
                raise
            self.note(f"the settings are wrong: {error}; the daemon keeps those that it has")
            return paths

    @property
    def holder(self) -> int | None:
        """The pid that holds the data folder, of which a daemon that does not answer is up all the same."""
        return None if self.options.url or self.options.socket else lock_holder(self._places.lock)

    def absence(self) -> str:
        """What is to be said of a daemon that does not answer: that it is down, or who is up and not to be found."""
        holder = self.holder
        if holder is None:
            return "the daemon is down"
        folder = self._places.data_dir
        return f"pid {holder} holds {folder}, but does not answer at {self.socket()} (--socket names another place)"

    def client(self, *, bounded: bool = True, patient: bool = False) -> Client:
        """A client of the daemon that the options name; `bounded` if --timeout is for each of its requests; `patient`
        for one that may take long."""
        from runtimed.client import REQUEST_TIMEOUT, Client

        usual = PATIENT_SECONDS if patient else REQUEST_TIMEOUT
        timeout = usual if self.options.timeout is None or not bounded else self.options.timeout
        trace = self.environ.get("TRACEPARENT", "")
        traceparent = trace if TRACEPARENT.fullmatch(trace) else None
        url = self.options.url
        socket = None if url is not None else self.socket()
        return Client(socket=socket, url=url, token=self._token(), timeout=timeout, traceparent=traceparent)

    def ask(self, work: Callable[[Client], Awaitable[T]], *, bounded: bool = True, patient: bool = False) -> T:
        """Run this with a client, on asyncio: the loop that Python has anyway is the quickest to load."""
        import anyio

        from runtimed.client_errors import DaemonUnreachable

        async def main() -> T:
            async with self.client(bounded=bounded, patient=patient) as client:
                return await work(client)

        try:
            return anyio.run(main)
        except DaemonUnreachable as error:
            self._explain(error)
            raise

    def read(self, work: Callable[[Source], Awaitable[T]]) -> T:
        """Run this with something to read from: the daemon or, with --data-dir while it is down, the file."""
        import anyio

        from runtimed.cli.source import Online
        from runtimed.client_errors import DaemonUnreachable

        async def main() -> T:
            try:
                async with self.client() as client:
                    return await work(Online(client.link))
            except DaemonUnreachable as error:
                return await self._read_file(work, error)

        return anyio.run(main)

    def _explain(self, error: RuntimedError) -> None:
        """To start another is no advice where one is up."""
        if self.holder is not None:
            error.hint = f"{self.absence()}."

    async def _read_file(self, work: Callable[[Source], Awaitable[T]], error: RuntimedError) -> T:
        with self.file(error) as source:
            return await work(source)

    @contextmanager
    def file(self, error: RuntimedError) -> Iterator[Offline]:
        """The file of --data-dir, because of this error; raises the error if there is no such file or option."""
        self._explain(error)
        journal = None if self.options.url or self.options.socket else self.settings.paths.journal
        if journal is not None and is_closed(journal):
            error.hint = f"{error.hint} Its file, {journal}, is not readable for this user."
        if journal is None or not os.access(journal, os.R_OK):
            raise error
        if self.options.data_dir is None:
            error.hint = f"{error.hint} The file can be read with --data-dir {journal.parent}"
            raise error
        from runtimed.cli.source import offline

        with offline(journal) as source:
            self.note(f"{self.absence()}; read from {journal} as of record {source.seq}")
            yield source

    def watch(self, show: Callable[[], None], *, again: bool) -> None:
        """Show once or, with --watch, every two seconds until interrupted; a daemon that is away is waited for.

        A terminal is painted over; in a pipe, what is new or has changed comes as JSON lines."""
        if not again:
            show()
            return
        if not sys.stdout.isatty() and self.output in ("text", "json"):
            self.options = msgspec.structs.replace(self.options, output="jsonl")
        self._news = None if sys.stdout.isatty() else News()
        self._repaints = sys.stdout.isatty() and self.environ.get("TERM", "dumb") != "dumb"
        while True:
            self._watch_once(show)
            time.sleep(WATCH_SECONDS)

    def _watch_once(self, show: Callable[[], None]) -> None:
        if self._news is not None:
            self._news.begin()
        if self._repaints:
            self._lines_left = shutil.get_terminal_size().lines - LINES_KEPT
            click.echo(HOME, nl=False, color=True)
        try:
            show()
        except RuntimedError as error:
            if error.code not in ("daemon_unreachable", "timed_out", "draining", "overloaded"):
                raise
            if self._news is not None:
                self._news.failed()
            self.note(f"{error}; trying again")
        if self._repaints:
            click.echo(CLEAR_BELOW, nl=False, color=True)
        sys.stdout.flush()

    def _token(self) -> str | None:
        name = self.options.token_file
        if name is None:
            return None
        try:
            with open(name, "rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode not in (0o600, 0o400):
                    self.note(f"{name} has mode {mode:04o}, and a token is yours alone: chmod 600 it")
                text = file.read(TOKEN_BYTES_MAX + 1)
        except OSError as error:
            raise InvalidInput(f"--token-file {name}: {error.strerror}") from None
        if len(text) > TOKEN_BYTES_MAX or not text.strip():
            raise InvalidInput(f"--token-file {name}: there is no token in it")
        return text.strip().decode("ascii", "replace")
