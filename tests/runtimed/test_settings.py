"""Settings: precedence, strictness, and messages that name file, key and expectation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtimed import settings
from runtimed.settings import ConfigError, Settings, load

EXAMPLE = Path(__file__).parents[2] / "config" / "runtimed.toml"
HOME = {"HOME": "/home/someone"}


def written(folder: Path, text: str) -> Path:
    file = folder / "runtimed.toml"
    file.write_text(text)
    return file


def refused(folder: Path, text: str, environ: dict[str, str] | None = None, flags: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text), {**HOME, **(environ or {})}, flags)
    assert (caught.value.status, caught.value.exit_code) == (500, 78)
    return str(caught.value)


def test_nothing_said_gives_the_defaults() -> None:
    """Without a file, variables or flags every setting has its default."""
    loaded = load(None, HOME)

    assert msgspec.structs.replace(loaded, paths=Settings().paths) == Settings()
    assert (
        loaded.http.max_connections,
        loaded.http.body_max_bytes,
        loaded.daemon.drain_delay,
        loaded.daemon.drain_timeout,
    ) == (512, 8 * 1024**2, 0.0, 10.0)
    assert loaded.limits.payload_max_bytes == 2 * 1024**2


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    """Precedence is flag > environment > file > default, key by key."""
    file = written(tmp_path, "[http]\nmax_connections = 1\nbody_timeout = 1\nheader_timeout = 1\n")
    environ = {**HOME, "RUNTIMED__HTTP__MAX_CONNECTIONS": "2", "RUNTIMED__HTTP__BODY_TIMEOUT": "2"}

    loaded = load(file, environ, {"http.max_connections": 3, "http.bind": None})

    assert (
        loaded.http.max_connections,
        loaded.http.body_timeout,
        loaded.http.header_timeout,
        loaded.http.bind,
    ) == (3, 2.0, 1.0, None)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[http]\nmax_conections = 3", ["http.max_conections", "unknown key", "Did you mean max_connections?"]),
        ("[htpp]\nbind = ':1'", ["htpp", "unknown key", "Did you mean http?"]),
        ("[paths]\nsocket = 'x'", ["paths", "unknown key", "Expected one of: access,"]),
        ("[http]\nmax_connections = 'many'", ['found "many" (text)', "expected a whole number from 1 to 100,000"]),
        ("[http]\nmax_connections = 0", ["found 0 (a number)", "expected a whole number from 1"]),
        ("[http]\nmax_connections = true", ["found true (a truth value)"]),
        ("[http]\nbody_timeout = nan", ["http.body_timeout: found nan", "expected a number above 0"]),
        ("[http]\nbody_timeout = inf", ["http.body_timeout: found inf"]),
        ("[http]\nbind = 'here'", ["http.bind", 'found "here"', "expected HOST:PORT"]),
        ("[http]\nbind = '[::1]:70000'", ["http.bind", "expected HOST:PORT"]),
        ("[http]\nsocket_mode = '0990'", ["http.socket_mode", "an octal mode"]),
        ("http = 3", ["http: found 3 (a number), expected a table"]),
        ("[[http]]\nbind = ':1'", ["http: found", "(a list), expected a table"]),
        ("[queues]\nemail = 3", ["queues.email: found 3", "expected a table"]),
        ("[queues.email]\nrates = 3", ["queues.email.rates", "Did you mean rate?"]),
        ("[connectors.x]\nevery = 3", ["connectors.x.kind: missing"]),
        ("[access.groups]\nops = ['bob']", ["access.groups.ops", '"uid:NUMBER"']),
        ("[log]\nlevel = 'loud'", ["log.level", 'one of "debug"']),
        ("[daemon]\napps = 'flows.py'", ["daemon.apps", "expected a list"]),
        ("[daemon\napps = []", ["not TOML", "line 1"]),
        ("[daemon]\ndata_dir = '~no-such-user/x'", ["daemon.data_dir", "~no-such-user is nobody's home folder"]),
        ("[daemon]\ndata_dir = 'a\\u0000b'".replace("'", '"'), ["daemon.data_dir", "no zero byte"]),
        ("[journal]\nbackup_dir = '~no-such-user/b'", ["journal.backup_dir", "expected a path"]),
        (f"a = {'[' * 3_000}{']' * 3_000}", ["too many lists or tables in one another"]),
        (f"[{'.'.join(['connectors'] * 3_000)}]\na = 1", ["connectors.connectors", "more than 100 tables"]),
        (f"[limits]\nthreads_max = {'9' * 5_000}", ["a number of thousands of digits"]),
        (f"[limits]\nthreads_max = 0x{'f' * 5_000}", ["limits.threads_max: found thousands of digits"]),
    ],
)
def test_a_mistake_names_file_key_found_and_expected(tmp_path: Path, text: str, parts: list[str]) -> None:
    """Whatever is wrong in the file, the one message says where, which key, what was found and what was expected."""
    message = refused(tmp_path, text)

    assert str(tmp_path / "runtimed.toml") in message
    assert [part for part in parts if part not in message] == []


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    """A bad variable is named as such, an unknown one as well."""
    assert "$RUNTIMED__HTTP__MAX_CONNECTIONS: http.max_connections: found" in refused(
        tmp_path, "", {"RUNTIMED__HTTP__MAX_CONNECTIONS": "many"}
    )
    assert "$RUNTIMED__HTTP__NOPE: http.nope: unknown key" in refused(tmp_path, "", {"RUNTIMED__HTTP__NOPE": "1"})
    assert "$RUNTIMED__HTTP: http: found" in refused(tmp_path, "", {"RUNTIMED__HTTP": "1"})
    deep = "[" * 3_000
    assert "$RUNTIMED__DAEMON__APPS: daemon.apps: found" in refused(tmp_path, "", {"RUNTIMED__DAEMON__APPS": deep})
    assert "$RUNTIMED__QUEUES: queues: found" in refused(tmp_path, "", {"RUNTIMED__QUEUES": f'{{"a": {deep}'})
    assert "$RUNTIMED__QUEUES: queues: found" in refused(tmp_path, "", {"RUNTIMED__QUEUES": "\udcff"})
    nested = f"RUNTIMED__CONNECTORS__{'__'.join('a' * 3_000)}"
    assert "more than 100 tables in one another" in refused(tmp_path, "", {nested: "1"})


def test_a_mistake_in_a_flag_names_the_flag(tmp_path: Path) -> None:
    """A bad flag is named as the person typed it."""
    assert "--bind: http.bind" in refused(tmp_path, "", flags={"http.bind": "x"})
    assert "--app: daemon.apps" in refused(tmp_path, "", flags={"daemon.apps": [""]})
    assert "--data-dir: daemon.data_dir" in refused(tmp_path, "", flags={"daemon.data_dir": "~no-such-user/x"})


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """A file that is missing, is a folder or is not UTF-8 is refused with a sentence."""
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    for path, part in (
        (tmp_path / "no.toml", "no such file"),
        (tmp_path, "cannot be read"),
        (tmp_path / "latin.toml", "UTF-8"),
    ):
        with pytest.raises(ConfigError, match=part):
            load(path, HOME)


def test_the_environment_is_read_by_the_type_of_the_key() -> None:
    """Numbers, lists (JSON or commas), tables and octal modes can all be said in variables."""
    loaded = load(
        None,
        {
            **HOME,
            "RUNTIMED__DAEMON__APPS": "shop:app, flows.py",
            "RUNTIMED__HTTP__SOCKET_MODE": "600",
            "RUNTIMED__ACCESS__LEVELS__ADMIN": '["uid:7"]',
            "RUNTIMED__QUEUES": '{"mail": {"rate": 5}}',
            "RUNTIMED__LOG__LEVEL": "debug",
        },
    )

    assert loaded.daemon.apps == ("shop:app", "flows.py")
    assert loaded.http.socket_mode_bits == 0o600
    assert loaded.access.levels.admin == ("uid:7",)
    assert loaded.queues["mail"].rate == 5
    assert loaded.log.level == "debug"


def test_a_variable_finds_a_queue_whose_name_it_cannot_spell(tmp_path: Path) -> None:
    """A variable's upper case and underscores match the name in the file."""
    file = written(tmp_path, "[queues.Mail-Out]\nrate = 1\n")

    loaded = load(file, {**HOME, "RUNTIMED__QUEUES__MAIL_OUT__CONCURRENCY": "4"})

    assert loaded.queues == {"Mail-Out": settings.Queue(rate=1, concurrency=4)}


def test_an_octal_number_is_a_mode_too(tmp_path: Path) -> None:
    """TOML's `0o600` and `"0600"` mean the same; a decimal that only looks octal is refused."""
    assert load(written(tmp_path, "[http]\nsocket_mode = 0o600"), HOME).http.socket_mode_bits == 0o600
    assert load(written(tmp_path, "[http]\nsocket_mode = '0600'"), HOME).http.socket_mode_bits == 0o600
    assert "octal mode" in refused(tmp_path, "[http]\nsocket_mode = 660")


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("localhost", 65535)),
        (":80", ("0.0.0.0", 80)),
    ],
)
def test_bind_is_host_and_port(bind: str, address: tuple[str, int]) -> None:
    """`--bind HOST:PORT` takes names, IPv4, IPv6 in brackets, and no host for all addresses."""
    assert load(None, HOME, {"http.bind": bind}).http.address == address


def test_the_data_folder_follows_the_contract(tmp_path: Path) -> None:
    """Flag, then variable and file, then $STATE_DIRECTORY, then $XDG_STATE_HOME/runtimed, then the home folder."""
    file = written(tmp_path, "[daemon]\ndata_dir = 'here'\n")
    state = {**HOME, "XDG_STATE_HOME": "/xdg"}

    assert load(file, state, {"daemon.data_dir": "/flag"}).paths.data_dir == Path("/flag")
    assert load(file, {**state, "STATE_DIRECTORY": "/state"}).paths.data_dir == tmp_path / "here"
    assert load(None, {**state, "STATE_DIRECTORY": "/state:/more"}).paths.data_dir == Path("/state")
    assert load(None, state).paths.data_dir == Path("/xdg/runtimed")
    assert load(None, HOME).paths.data_dir == Path("/home/someone/.local/state/runtimed")


def test_without_any_home_folder_the_data_folder_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A uid that no table of users knows, as containers have, is told which option is missing."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)

    with pytest.raises(ConfigError, match=r"daemon\.data_dir: missing") as caught:
        load(None, {})
    assert "--data-dir" in caught.value.hint
    assert load(None, {}, {"daemon.data_dir": "/data"}).paths.data_dir == Path("/data")


def test_files_of_apps_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    """`flows.py` in a settings file is beside it, wherever the daemon is started; a flag's is in the current folder."""
    file = written(tmp_path, "[daemon]\napps = ['flows.py', 'sub/x.py:app', 'module:app', '/abs/y.py']\n")

    assert load(file, HOME).daemon.apps == (
        f"{tmp_path}/flows.py",
        f"{tmp_path}/sub/x.py:app",
        "module:app",
        "/abs/y.py",
    )
    assert load(file, HOME, {"daemon.apps": ["flows.py"]}).daemon.apps == ("flows.py",)


def test_the_socket_is_in_the_runtime_folder_when_there_is_one() -> None:
    """`runtimed.sock` lies in $RUNTIME_DIRECTORY when set, else in the data folder."""
    flags = {"daemon.data_dir": "/data"}

    assert load(None, {**HOME, "RUNTIME_DIRECTORY": "/run/runtimed"}, flags).paths.socket == Path(
        "/run/runtimed/runtimed.sock"
    )
    paths = load(None, HOME, flags).paths
    assert [paths.socket, paths.journal, paths.ballast, paths.lock] == [
        Path("/data") / name for name in ("runtimed.sock", "journal.db", "ballast", "lock")
    ]


def test_a_socket_path_that_the_kernel_cannot_take_is_refused() -> None:
    """107 bytes are the most that a unix socket's path can have; more is a sentence, not a late OSError."""
    fits = "/" + "x" * (107 - len("//runtimed.sock"))

    assert len(str(load(None, HOME, {"daemon.data_dir": fits}).paths.socket)) == 107
    with pytest.raises(ConfigError, match="108 bytes are too long") as caught:
        load(None, HOME, {"daemon.data_dir": fits + "x"})
    assert "--data-dir" in caught.value.hint


def test_the_configuration_is_found_here_or_where_systemd_puts_it(tmp_path: Path) -> None:
    """Without --config, `runtimed.toml` of the current folder counts, then that of $CONFIGURATION_DIRECTORY."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    environ = {"CONFIGURATION_DIRECTORY": f"{tmp_path}/none:{there}"}

    assert settings.find_config(environ, here) is None
    there_file = written(there, "")
    assert settings.find_config(environ, here) == there_file
    here_file = written(here, "")
    assert settings.find_config(environ, here) == here_file


def test_a_folder_that_may_not_be_looked_into_has_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`runuser -u runtimed` in root's home: the current folder is passed over, not a crash."""

    def refuse(path: Any, **more: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.stat", refuse)
    assert settings.find_config({}, tmp_path) is None


def test_differences_name_what_a_reload_would_change(tmp_path: Path) -> None:
    """Two settings are compared key by key, named tables included, derived paths left out."""
    old = load(written(tmp_path, "[queues.a]\nrate = 1\n"), HOME)
    new = load(None, HOME, {"log.level": "debug", "http.bind": ":1"})

    assert settings.differences(old, old) == []
    assert settings.differences(old, new) == [
        "http.bind",
        "log.level",
        "queues.a.rate",
        "queues.a.rate_period",
    ]


def keys_of(kind: Any, at: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from keys_of(field.type, f"{at}{field.name}.") if field.name != "paths" else ()
        else:
            yield field.name


def test_the_example_file_says_every_default() -> None:
    """config/runtimed.toml shows every key, and with its comment signs taken away it is exactly the defaults."""
    text = EXAMPLE.read_text()
    shown = set(re.findall(r"^# ?([a-z_]+) = ", text, re.MULTILINE))

    assert [
        key
        for key in keys_of(Settings)
        if key not in shown and key not in {"queues", "connectors", "webhooks", "notifications", "groups"}
    ] == []
    assert load(EXAMPLE, HOME).http == Settings().http


def test_the_example_file_uncommented_equals_the_defaults(tmp_path: Path) -> None:
    """Taking every `#` before a key away changes nothing."""
    plain = re.sub(r"^#(?=[a-z_]+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE)

    loaded = load(written(tmp_path, plain), HOME)

    assert msgspec.structs.replace(loaded, paths=Settings().paths) == Settings()


def test_the_examples_in_the_example_file_are_valid(tmp_path: Path) -> None:
    """The tables that the file shows as examples load as they stand."""
    lines = re.findall(r"^# ((?:\[[a-z_.]+\]|[a-z_]+ = ).*)$", EXAMPLE.read_text(), re.MULTILINE)
    tables = "\n".join(lines[lines.index("[queues.emails]") : lines.index('ops = ["uid:1000", "gid:ops"]')])

    loaded = load(written(tmp_path, tables), HOME)

    assert (loaded.queues["emails"].rate_period, loaded.connectors["charges"].kind) == (60.0, "http_json")
