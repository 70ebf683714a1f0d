"""The daemon's settings: one frozen tree with every limit, and how files, environment and flags fill it.

Precedence is flag > environment > file > default, key by key. Loading is strict: an unknown key, a wrong type or a
value out of range is a `ConfigError` that names where it was said, the key, what was found and what was expected.
Durations are seconds; sizes are bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from runtimed.config_layers import ConfigError as ConfigError
from runtimed.config_layers import Layer, Said, build, put, read_environ, read_file

CONFIG_NAME = "runtimed.toml"
SOCKET_NAME = "runtimed.sock"
SOCKET_PATH_MAX_BYTES = 107
"""The longest path a Linux unix socket can have: `sun_path` holds 108 bytes, the last of them zero (unix(7))."""

ENVIRONMENT_PREFIX = "RUNTIMED__"
KIB, MIB, GIB = 1024, 1024**2, 1024**3

Seconds = Annotated[float, Meta(ge=0.0, le=86_400.0 * 366)]
PositiveSeconds = Annotated[float, Meta(gt=0.0, le=86_400.0 * 366)]
Count = Annotated[int, Meta(ge=1, le=100_000_000)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
PathText = Annotated[str, Meta(min_length=1, max_length=4096)]
Principal = Annotated[
    str,
    Meta(pattern=r"^(uid|gid|token):[A-Za-z0-9_.-]+$", description='"uid:NUMBER", "gid:NAME" or "token:NAME"'),
]
Delivery = Annotated[
    str,
    Meta(pattern="^(records|workflow:.+|signal:.+)$", description='"records", "workflow:NAME" or "signal:NAME"'),
]
Mode = Annotated[
    Annotated[int, Meta(ge=0, le=0o777)] | Annotated[str, Meta(pattern="^0?[0-7]{3}$")],
    Meta(description='an octal mode such as "0660" or 0o660'),
]


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """What runs, where its data is, and how it stops."""

    apps: tuple[PathText, ...] = ()
    data_dir: PathText | None = None
    drain_delay: Seconds = 0.0
    drain_timeout: Seconds = 10.0


class Http(msgspec.Struct, frozen=True, kw_only=True):
    """The socket, the TCP address, and what a client may cost."""

    bind: Name | None = None
    socket_mode: Mode = "0660"
    max_connections: Annotated[int, Meta(ge=1, le=100_000)] = 512
    body_max_bytes: Annotated[int, Meta(ge=KIB, le=GIB)] = 8 * MIB
    header_timeout: PositiveSeconds = 10.0
    body_timeout: PositiveSeconds = 30.0
    send_timeout: PositiveSeconds = 30.0
    hosts: tuple[Name, ...] = ()
    origins: tuple[Name, ...] = ()

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of `bind`, or None without a TCP bind."""
        return None if self.bind is None else split_bind(self.bind)

    @property
    def socket_mode_bits(self) -> int:
        """`socket_mode` as a number for chmod."""
        return self.socket_mode if isinstance(self.socket_mode, int) else int(self.socket_mode, 8)


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """The file: how long ended runs are kept (0: for ever), the reserve for a full disk, the SQLite WAL's size. Backups
    go to `backup_dir` (without one, to `backups` in the data folder), one each `backup_every` seconds (0: none by
    itself); the newest `backup_keep` stay. `checkpoint = "external"` leaves the SQLite WAL to another program."""

    retention_days: Annotated[float, Meta(ge=0.0, le=36_500.0)] = 0.0
    backup_dir: Name | None = None
    backup_every: Seconds = 0.0
    backup_keep: Annotated[int, Meta(ge=1, le=10_000)] = 7
    checkpoint: Literal["auto", "external"] = "auto"
    ballast_bytes: Annotated[int, Meta(ge=0, le=64 * GIB)] = 16 * MIB
    wal_max_bytes: Annotated[int, Meta(ge=MIB, le=64 * GIB)] = 64 * MIB
    disk_free_min_bytes: Annotated[int, Meta(ge=0, le=1024 * GIB)] = 64 * MIB
    readers_max: Annotated[int, Meta(ge=1, le=64)] = 4


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Upper bounds of everything that could grow."""

    mailbox_size: Count = 10_000
    payload_max_bytes: Annotated[int, Meta(ge=KIB, le=32 * MIB)] = 2 * MIB
    runs_active_max: Count = 10_000
    runs_batch_max: Annotated[int, Meta(ge=1, le=20_000)] = 1_000
    steps_concurrent_max: Count = 1_000
    threads_max: Annotated[int, Meta(ge=1, le=10_000)] = 32
    park_after: Seconds = 60.0
    crashed_attempts_max: Annotated[int, Meta(ge=1, le=1_000)] = 10
    step_cancel_grace: Seconds = 10.0
    batch_records_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 4_096
    batch_bytes_max: Annotated[int, Meta(ge=KIB, le=32 * MIB)] = 8 * MIB
    history_records_max: Annotated[int, Meta(ge=100, le=100_000_000)] = 50_000


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A named queue: how many of its runs go on at once, and how many may begin in each `rate_period`."""

    concurrency: Count | None = None
    rate: Count | None = None
    rate_period: PositiveSeconds = 1.0


class Connector(msgspec.Struct, frozen=True, kw_only=True):
    """A connector declared without code; `options` are those of its kind. What shares a `credential` shares a rate
    budget of `rate` requests in each `rate_period`; `timeout` is between two pages."""

    kind: Literal["http_json", "files", "sql", "stripe", "hubspot", "singer", "airbyte"]
    every: PositiveSeconds = 30.0
    key: Name | None = None
    deliver: Delivery = "records"
    run_id_from: Name | None = None
    timeout: PositiveSeconds = 60.0
    credential: Name | None = None
    rate: Count | None = None
    rate_period: PositiveSeconds = 1.0
    command: tuple[Name, ...] = ()
    config: dict[str, Any] = {}
    options: dict[str, Any] = {}


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook declared without code. All `secrets` are active; `key` is the path of the delivery's id in the body,
    without it the provider's header counts; `tolerance` is how old a signature may be."""

    verify: Literal["stripe", "hubspot_v3", "github", "standard", "none"] = "standard"
    secrets: tuple[Name, ...] = ()
    key: Name | None = None
    deliver: Delivery = "records"
    run_id_from: Name | None = None
    tolerance: PositiveSeconds = 300.0
    keep_headers: tuple[Name, ...] = ()
    keep_body: bool = False


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """Where people are told: a Standard-Webhooks-signed POST to `url` for each of `events`."""

    url: Annotated[str, Meta(min_length=8, max_length=2000, pattern="^https?://")]
    secret: Name
    events: tuple[Literal["approval_requested", "run_failed", "run_blocked", "connector_quarantined"], ...] = (
        "approval_requested",
        "run_failed",
        "run_blocked",
        "connector_quarantined",
    )


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """Who has which level; each includes those before it. Root and the daemon's own user are always admin."""

    viewer: tuple[Principal, ...] = ()
    operator: tuple[Principal, ...] = ()
    approver: tuple[Principal, ...] = ()
    admin: tuple[Principal, ...] = ()


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Levels of principals, and the groups that approvals name as roles."""

    levels: Levels = Levels()
    groups: dict[str, tuple[Principal, ...]] = {}


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged and how; `auto` is text on a terminal and JSON lines otherwise."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """Spans for OpenTelemetry over OTLP/HTTP, to `otlp_endpoint` (its base, such as http://127.0.0.1:4318); without it
    there are none. `queue_spans_max` may wait to be sent, what is more is dropped."""

    otlp_endpoint: Annotated[str, Meta(min_length=8, max_length=2000, pattern="^https?://")] | None = None
    service_name: Name = "runtimed"
    queue_spans_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 8_192


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """Where things are, worked out from the settings and the environment. Not settings themselves."""

    data_dir: Path = Path()
    socket: Path = Path(SOCKET_NAME)
    config: Path | None = None

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.data_dir / "journal.db"

    @property
    def ballast(self) -> Path:
        """The file that is given up when the disk is full."""
        return self.data_dir / "ballast"

    @property
    def lock(self) -> Path:
        """The file whose lock the daemon holds."""
        return self.data_dir / "lock"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. `Settings()` is the defaults; `paths` is filled by `load`."""

    daemon: Daemon = Daemon()
    http: Http = Http()
    journal: Journal = Journal()
    limits: Limits = Limits()
    queues: dict[str, Queue] = {}
    connectors: dict[str, Connector] = {}
    webhooks: dict[str, Webhook] = {}
    notifications: dict[str, Notification] = {}
    access: Access = Access()
    log: Log = Log()
    telemetry: Telemetry = Telemetry()
    paths: Paths = Paths()


def split_bind(bind: str) -> tuple[str, int]:
    """`HOST:PORT` as both; IPv6 in brackets, an empty host for all addresses. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/\s]*)):([0-9]{1,5})", bind)
    if match is None or int(match[3]) > 65_535:
        raise ValueError("HOST:PORT, for example 127.0.0.1:8080 or [::1]:8080")
    return match[1] or match[2] or "0.0.0.0", int(match[3])  # an empty host means all, as everywhere


def _checked_bind(bind: str | None) -> str | None:
    if bind is not None:
        split_bind(bind)
    return bind


def _checked_path(path: str | None) -> str | None:
    """As it was said: what it is relative to, and whose home `~` is, is worked out where it is used."""
    if path is not None:
        if "\0" in path:
            raise ValueError("a path, which holds no zero byte")
        try:
            Path(path).expanduser()
        except RuntimeError:
            raise ValueError(f"a path; {path.split('/')[0]} is nobody's home folder") from None
    return path


_RULES = {"http.bind": _checked_bind, "daemon.data_dir": _checked_path, "journal.backup_dir": _checked_path}


def _flag_name(key: str) -> str:
    return "--app" if key == "daemon.apps" else "--" + key.split(".")[-1].replace("_", "-")


def load(
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Read settings from a TOML file, the environment and flags, in rising precedence.

    `flags` maps dotted keys (`http.bind`) to values; None means not given. `environ` is `os.environ` unless given.
    Raises `ConfigError`.
    """
    environ = os.environ if environ is None else environ
    file = None if path is None else Path(path)
    merged: Layer = {} if file is None else read_file(file)
    for dotted, said in read_environ(environ, ENVIRONMENT_PREFIX):
        put(merged, dotted, said)
    for key, value in (flags or {}).items():
        if value is not None:
            put(merged, key.split("."), Said(_flag_name(key), value))
    bare: Settings = build(Settings, merged, _RULES, skip=frozenset({"paths"}))
    paths = _paths(bare, merged, file, environ)
    return msgspec.structs.replace(bare, paths=paths, daemon=_with_apps(bare.daemon, merged, file))


def places(path: Path, environ: Mapping[str, str], data_dir: str | None = None) -> Paths:
    """Where the daemon is by a file that cannot be used: nothing but its `daemon.data_dir` is read, which a daemon that
    runs still has. Raises `ConfigError` where not even that can be said."""
    merged: Layer = {}
    try:
        daemon = read_file(path).get("daemon")
    except ConfigError:
        if data_dir is None and not environ.get("RUNTIME_DIRECTORY"):
            raise
    else:
        if isinstance(daemon, dict) and "data_dir" in daemon:
            merged["daemon"] = {"data_dir": daemon["data_dir"]}
    for dotted, said in read_environ(environ, ENVIRONMENT_PREFIX):
        if dotted == ["daemon", "data_dir"]:
            put(merged, dotted, said)
    if data_dir is not None:
        put(merged, ["daemon", "data_dir"], Said("--data-dir", data_dir))
    bare: Settings = build(Settings, merged, _RULES, skip=frozenset({"paths"}))
    return _paths(bare, merged, path, environ)


def find_config(environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The configuration file when none is named: `runtimed.toml` here, or in systemd's configuration folder. A folder
    that we may not look into has none for us."""
    folders = [cwd, *(Path(part) for part in environ.get("CONFIGURATION_DIRECTORY", "").split(":") if part)]
    return next((folder / CONFIG_NAME for folder in folders if os.path.isfile(folder / CONFIG_NAME)), None)


def in_file(error: ConfigError, settings: Settings) -> ConfigError:
    """A mistake that shows only where the settings are used, told with the file that they came from."""
    where = settings.paths.config
    return ConfigError(f"{where}: {error}" if where else str(error), hint=error.hint)


def differences(old: Settings, new: Settings) -> list[str]:
    """The dotted keys whose values differ, `paths` apart; a named table that came or went counts as one key."""
    before, after = (_flatten(msgspec.to_builtins(each, enc_hook=str)) for each in (old, new))
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if not prefix and key == "paths":
            continue
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


# --- where things are -----------------------------------------------------------------------------------------------


def _paths(settings: Settings, merged: Layer, file: Path | None, environ: Mapping[str, str]) -> Paths:
    data_dir = _data_dir(settings, merged, file, environ)
    run = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    socket = Path(run or data_dir) / SOCKET_NAME
    size = len(os.fsencode(socket))
    if size > SOCKET_PATH_MAX_BYTES:
        raise ConfigError(
            f"{socket}: {size} bytes are too long for a unix socket, which takes {SOCKET_PATH_MAX_BYTES}",
            hint="Use a shorter --data-dir, or set RUNTIME_DIRECTORY to a short folder.",
        )
    return Paths(data_dir=data_dir, socket=socket, config=None if file is None else file.absolute())


def _with_apps(daemon: Daemon, merged: Layer, file: Path | None) -> Daemon:
    """A relative `flows.py` in a file is meant from that file; a module, or a flag, from the current folder."""
    if file is None or not daemon.apps or merged["daemon"]["apps"].where != str(file):
        return daemon
    is_file = re.compile(r"[^/].*\.py(:.*)?")
    apps = [str(file.parent.absolute() / app) if is_file.fullmatch(app) else app for app in daemon.apps]
    return msgspec.structs.replace(daemon, apps=tuple(apps))


def _data_dir(settings: Settings, merged: Layer, file: Path | None, environ: Mapping[str, str]) -> Path:
    """A relative folder in a file is meant from that file; in a flag or variable, from the current folder."""
    named = settings.daemon.data_dir
    if named is not None:
        said = merged["daemon"]["data_dir"]
        base = file.parent if file is not None and said.where == str(file) else Path()
        return Path(os.path.normpath((base / Path(named).expanduser()).absolute()))
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if state:
        return Path(state)
    home = environ.get("XDG_STATE_HOME", "")
    if home and Path(home).is_absolute():
        return Path(home) / "runtimed"
    try:
        return Path(environ.get("HOME") or Path.home()) / ".local" / "state" / "runtimed"
    except RuntimeError:  # a uid that no table of users knows, as containers have
        raise ConfigError(
            "daemon.data_dir: missing, and there is no home folder", hint="Name one: --data-dir."
        ) from None
