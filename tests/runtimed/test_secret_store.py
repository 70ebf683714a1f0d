"""Secrets at rest: sealed, bound to their place, changed whole, and never shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtimed.master_key
from actors.errors import InvalidInput, NotFound, SecretMissing, SecretsRefused
from runtimed import envelope
from runtimed.secret_store import GRACE_MAX_S, VALUE_MAX_BYTES, SecretStore
from runtimed.wire import RotateSecretRequest, SetSecretRequest
from wal.errors import JournalLocked

ROOT = Path(__file__).resolve().parents[2]
CANARY = "whsec_canary-8f1c"


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> SecretStore:
    return SecretStore(tmp_path, environ={}, now_us=clock)


def again(store: SecretStore, folder: Path, **environ: str) -> SecretStore:
    """Another process's view of the same folder."""
    return SecretStore(folder, environ=environ, now_us=store._now_us)


# --- the envelope -----------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_is_sealed_opens_with_its_key_and_label_alone(value: bytes, label: str) -> None:
    """The same key and label give the value; another of either gives nothing."""
    master, other = envelope.new_master(), envelope.new_master()
    sealed = envelope.seal(master, value, label)
    assert envelope.unseal(master, sealed, label) == value
    for key, name in ((other, label), (master, label + "x")):
        with pytest.raises(envelope.Broken):
            envelope.unseal(key, sealed, name)


def test_any_changed_byte_is_seen() -> None:
    """A flip of any bit of the wrapped key or the body keeps the value shut."""
    master = envelope.new_master()
    sealed = envelope.seal(master, b"value", "a")
    for field in ("wrapped", "body"):
        data = getattr(sealed, field)
        for place in range(len(data)):
            bad = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            parts = {"wrapped": sealed.wrapped, "body": sealed.body, field: bad}
            with pytest.raises(envelope.Broken):
                envelope.unseal(master, envelope.Sealed(**parts), "a")


def test_parts_of_two_values_do_not_mix() -> None:
    """The wrapped key of one value does not open the body of another, and neither stands in for the other part."""
    master = envelope.new_master()
    one, two = envelope.seal(master, b"1", "a"), envelope.seal(master, b"2", "a")
    for wrapped, body in ((one.wrapped, two.body), (one.body, one.wrapped), (b"", one.body), (one.wrapped, b"")):
        with pytest.raises(envelope.Broken):
            envelope.unseal(master, envelope.Sealed(wrapped, body), "a")


def test_rewrapping_changes_the_key_and_nothing_else() -> None:
    """Under a new master key the value opens, its body is the same bytes, and the old key opens nothing."""
    old, new = envelope.new_master(), envelope.new_master()
    sealed = envelope.seal(old, b"value", "a")
    moved = envelope.rewrap(old, new, sealed, "a")
    assert moved.body == sealed.body
    assert envelope.unseal(new, moved, "a") == b"value"
    with pytest.raises(envelope.Broken):
        envelope.unseal(old, moved, "a")


# --- the store --------------------------------------------------------------------------------------------------------


def test_a_secret_is_there_for_the_next_process(store: SecretStore, tmp_path: Path) -> None:
    """What was set is read by another store of the folder, by both ways to write its name."""
    made = store.set("stripe", CANARY)
    other = again(store, tmp_path)
    assert other.get("stripe") == other.get("secret:stripe") == CANARY
    assert (made.name, made.version, made.changed_at) == ("stripe", 1, store._now_us())
    assert other.listed() == [made]


def test_the_files_are_private_and_tell_nothing(store: SecretStore, tmp_path: Path) -> None:
    """Files have mode 0600, and no byte of the value is in any of them."""
    store.set("stripe", CANARY)
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in files} == {"secrets.json", "secrets.json.lock", "master.key"}
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600
        assert CANARY.encode() not in path.read_bytes()


def test_a_change_counts_at_once_everywhere(store: SecretStore, tmp_path: Path) -> None:
    """A store that has read the file sees what another process wrote since."""
    store.set("a", "1")
    other = again(store, tmp_path)
    assert other.get("a") == "1"
    store.set("a", "2")
    assert other.get("a") == "2"
    store.delete("a")
    with pytest.raises(SecretMissing, match="'a'"):
        other.get("a")


def test_after_a_rotation_both_count_for_the_grace(store: SecretStore, clock: Clock) -> None:
    """The new value comes first, the former counts until its grace is over, and a set ends it at once."""
    store.set("a", "old")
    info = store.rotate("a", "new", 60.0)
    assert (info.version, info.former_until) == (2, clock.us + 60_000_000)
    assert store.active("a") == ("new", "old")
    clock.us += 60_000_000
    assert store.active("a") == ("new",)
    assert store.info("a").former_until is None
    store.rotate("a", "newer", 60.0)
    store.set("a", "newest")
    assert store.active("a") == ("newest",)


def test_two_rotations_within_the_grace_keep_all_three(store: SecretStore, clock: Clock) -> None:
    """Each former value ends at its own time."""
    store.set("a", "1")
    store.rotate("a", "2", 100.0)
    clock.us += 50_000_000
    store.rotate("a", "3", 10.0)
    assert store.active("a") == ("3", "2", "1")
    clock.us += 20_000_000
    assert store.active("a") == ("3", "1")


def test_the_same_value_again_changes_nothing(store: SecretStore, tmp_path: Path) -> None:
    """A repeated request has no second effect: the version and the file stay."""
    store.set("a", "1")
    store.rotate("a", "2", 100.0)
    before = (tmp_path / "secrets.json").read_bytes()
    assert store.rotate("a", "2", 5.0).version == store.set("a", "2").version == 2
    assert (tmp_path / "secrets.json").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "v"), ("a b", "v"), ("a" * 201, "v"), ("a", ""), ("a", "x" * (VALUE_MAX_BYTES + 1)), ("a", "\ud800")],
)
def test_what_is_no_secret_is_refused(store: SecretStore, tmp_path: Path, name: str, value: str) -> None:
    """A wrong name or value is refused before anything is made."""
    with pytest.raises(InvalidInput):
        store.set(name, value)
    assert list(tmp_path.iterdir()) == []


def test_the_largest_value_is_kept(store: SecretStore) -> None:
    """The limit itself is allowed, in bytes."""
    value = "é" * (VALUE_MAX_BYTES // 2)
    store.set("a", value)
    assert store.get("a") == value


def test_what_is_not_there_is_named(store: SecretStore) -> None:
    """Missing secrets are refused by name, each verb with its own error."""
    with pytest.raises(SecretMissing, match="'a'"):
        store.get("a")
    for call in (lambda: store.rotate("a", "v"), lambda: store.delete("a"), lambda: store.info("a")):
        with pytest.raises(NotFound, match="'a'"):
            call()
    store.set("a", "1")
    with pytest.raises(InvalidInput):
        store.rotate("a", "2", GRACE_MAX_S * 2)


def test_a_value_put_in_anothers_place_does_not_open(store: SecretStore, tmp_path: Path) -> None:
    """Rows swapped in the file, by name or by version, are seen: the row is bound to what it holds."""
    store.set("a", "1")
    store.set("b", "2")
    path = tmp_path / "secrets.json"
    text = json.loads(path.read_text())
    text["secrets"]["a"], text["secrets"]["b"] = text["secrets"]["b"], text["secrets"]["a"]
    path.write_text(json.dumps(text))
    with pytest.raises(SecretsRefused, match="'a' does not open"):
        store.get("a")
    text["secrets"]["a"], text["secrets"]["b"] = text["secrets"]["b"], text["secrets"]["a"]
    text["secrets"]["a"][0]["version"] = 9
    path.write_text(json.dumps(text))
    with pytest.raises(SecretsRefused, match="'a' does not open"):
        store.get("a")
    assert store.get("b") == "2"


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"format": 2}', b'{"secrets": {"a": 1}}'])
def test_a_damaged_file_is_refused_and_not_written_over(store: SecretStore, tmp_path: Path, damage: bytes) -> None:
    """Neither reading nor changing goes on from a file that is not as it should be."""
    store.set("a", CANARY)
    path = tmp_path / "secrets.json"
    path.write_bytes(damage)
    for call in (lambda: store.get("a"), lambda: store.set("b", "v"), store.listed):
        with pytest.raises(SecretsRefused):
            call()
    assert path.read_bytes() == damage


@pytest.mark.parametrize("name", ["secrets.json", "master.key"])
def test_a_file_open_to_others_is_refused(store: SecretStore, tmp_path: Path, name: str) -> None:
    """A wrong mode is said with what to do, before anything is read."""
    store.set("a", "1")
    (tmp_path / name).chmod(0o640)
    with pytest.raises(SecretsRefused, match="0640") as caught:
        again(store, tmp_path).get("a")
    assert "chmod 600" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_refused(store: SecretStore, tmp_path: Path) -> None:
    """A key that another user owns could be changed by them."""
    store.set("a", "1")
    os.chown(tmp_path / "master.key", 65_532, 65_532)
    with pytest.raises(SecretsRefused, match="user 65532"):
        again(store, tmp_path).get("a")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root meets other users' folders")
def test_root_leaves_other_users_folders_alone(store: SecretStore, tmp_path: Path) -> None:
    """Root would make files that the daemon's user cannot read."""
    os.chown(tmp_path, 65_532, 65_532)
    with pytest.raises(SecretsRefused, match="user 65532"):
        store.set("a", "1")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed(store: SecretStore, tmp_path: Path) -> None:
    """The file is read where it is, not where a link in its place leads to."""
    store.set("a", "1")
    (tmp_path / "secrets.json").rename(tmp_path / "elsewhere")
    (tmp_path / "secrets.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SecretsRefused):
        again(store, tmp_path).get("a")


def test_without_its_master_key_the_file_stays_shut(store: SecretStore, tmp_path: Path) -> None:
    """A lost or foreign key is said, names can still be listed, and no second key is made over the first."""
    store.set("a", "1")
    (tmp_path / "master.key").unlink()
    fresh = again(store, tmp_path)
    assert [each.name for each in fresh.listed()] == ["a"]
    for call in (lambda: fresh.get("a"), lambda: fresh.set("b", "2")):
        with pytest.raises(SecretsRefused, match="master key"):
            call()
    assert not (tmp_path / "master.key").exists()


# --- the master key ---------------------------------------------------------------------------------------------------


def test_a_new_master_key_opens_everything(store: SecretStore, tmp_path: Path) -> None:
    """After the rotation the old key is gone and all values, former ones too, open with the new one."""
    store.set("a", "1")
    store.rotate("a", "2", 100.0)
    before = (tmp_path / "master.key").read_bytes()
    assert store.rotate_master() == 1
    assert (tmp_path / "master.key").read_bytes() != before
    assert not (tmp_path / "master.key.next").exists()
    assert again(store, tmp_path).active("a") == ("2", "1")


@pytest.mark.parametrize("form", ["raw", "hex", "base64"])
def test_the_service_manager_may_give_the_key(store: SecretStore, tmp_path: Path, form: str) -> None:
    """A credential counts in any usual spelling; no key file is made then."""
    import base64

    key = envelope.new_master()
    spelled = {"raw": key, "hex": key.hex().encode() + b"\n", "base64": base64.b64encode(key)}[form]
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "runtimed_master_key").write_bytes(spelled)
    (folder / "runtimed_master_key").chmod(0o440)
    data = tmp_path / "data"
    mine = again(store, data, CREDENTIALS_DIRECTORY=str(folder))
    mine.set("a", "1")
    assert again(store, data, CREDENTIALS_DIRECTORY=str(folder)).get("a") == "1"
    assert not (data / "master.key").exists()


def test_from_a_file_to_a_credential_and_on_to_the_next(store: SecretStore, tmp_path: Path) -> None:
    """The key moves out of the data folder into the service manager's hands, and can be changed there."""
    store.set("a", "1")
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "runtimed_master_key").write_bytes(envelope.new_master())
    (folder / "runtimed_master_key").chmod(0o400)
    mine = again(store, tmp_path, CREDENTIALS_DIRECTORY=str(folder))
    assert mine.get("a") == "1"
    mine.rotate_master()
    (tmp_path / "master.key").unlink()
    for call in (mine.rotate_master, mine.check_master):
        with pytest.raises(SecretsRefused, match="the one in use"):
            call()
    (folder / "runtimed_master_key").rename(folder / "runtimed_master_key_former")
    (folder / "runtimed_master_key").write_bytes(envelope.new_master())
    (folder / "runtimed_master_key").chmod(0o400)
    fresh = again(store, tmp_path, CREDENTIALS_DIRECTORY=str(folder))
    assert fresh.get("a") == "1"
    fresh.rotate_master()
    (folder / "runtimed_master_key_former").unlink()
    assert again(store, tmp_path, CREDENTIALS_DIRECTORY=str(folder)).get("a") == "1"


def test_what_is_no_key_is_refused(store: SecretStore, tmp_path: Path) -> None:
    """A key file with something else in it is not taken for a key."""
    store.set("a", "1")
    (tmp_path / "master.key").write_bytes(b"password\n")
    with pytest.raises(SecretsRefused, match="holds no key"):
        again(store, tmp_path).get("a")


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def die_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """`die_at(n)`: the n-th call from now on to the system that changes a file never happens, nor anything after."""
    real = {name: getattr(os, name) for name in ("replace", "fsync", "open", "fchmod")}
    left = [-1]

    def arm(n: int) -> None:
        left[0] = n

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real[name](*args, **more)

        return call

    for name in real:
        monkeypatch.setattr(runtimed.master_key.os, name, wrapped(name))
    yield arm
    left[0] = -1


@pytest.mark.slow
@pytest.mark.parametrize("change", ["set", "rotate", "delete", "master"])
def test_killed_anywhere_the_store_is_whole(
    tmp_path: Path, clock: Clock, die_at: Callable[[int], None], change: str
) -> None:
    """Killed before any of its system calls, a change is there whole or not at all, and the next one works."""
    verbs: dict[str, Callable[[SecretStore], Any]] = {
        "set": lambda store: store.set("a", "2"),
        "rotate": lambda store: store.rotate("a", "2", 100.0),
        "delete": lambda store: store.delete("a"),
        "master": lambda store: store.rotate_master(),
    }
    outcomes: dict[str, set[tuple[str, ...]]] = {
        "set": {("1",), ("2",)}, "rotate": {("1",), ("2", "1")}, "delete": {("1",), ()}, "master": {("1",)},
    }  # fmt: skip
    for n in range(100):
        folder = tmp_path / str(n)
        SecretStore(folder, environ={}, now_us=clock).set("a", "1")
        store = SecretStore(folder, environ={}, now_us=clock)
        die_at(n)
        try:
            verbs[change](store)
        except Killed:
            die_at(-1)
        else:
            break
        left = SecretStore(folder, environ={}, now_us=clock)
        found = left.active("a") if left.listed() else ()
        assert found in outcomes[change]
        left.set("b", "3")
        left.rotate_master()
        assert SecretStore(folder, environ={}, now_us=clock).get("b") == "3"
        assert sorted(path.name for path in folder.iterdir()) == ["master.key", "secrets.json", "secrets.json.lock"]
    assert n > 5


def test_a_second_writer_waits_and_is_not_let_in(store: SecretStore, tmp_path: Path, monkeypatch: Any) -> None:
    """Two processes never change the file at once: the second waits for the lock, and gives up in the end."""
    monkeypatch.setattr("runtimed.secret_store.LOCK_WAIT_S", 0.0)
    with store._changing() as contents:
        with pytest.raises(JournalLocked):
            again(store, tmp_path).set("b", "2")
        assert contents.secrets == {}


@pytest.mark.slow
def test_writers_side_by_side_lose_nothing(store: SecretStore, tmp_path: Path) -> None:
    """Four processes that set ten secrets each leave all forty."""
    code = (
        "import sys; from pathlib import Path; from runtimed import secret_store\n"
        "from runtimed.secret_store import SecretStore; secret_store.LOCK_WAIT_S = 60.0\n"
        "store = SecretStore(Path(sys.argv[1]), environ={})\n"
        "for i in range(10): store.set(f'{sys.argv[2]}-{i}', f'{i}')\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen([sys.executable, "-P", "-c", code, str(tmp_path), name], env=environ) for name in "abcd"
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert [store.get(f"{name}-{i}") for name in "abcd" for i in range(10)] == [f"{i}" for i in range(10)] * 4


# --- never shown ------------------------------------------------------------------------------------------------------


def test_neither_text_nor_traceback_tells_a_value(store: SecretStore, tmp_path: Path) -> None:
    """What a store, its errors and their tracebacks say holds no value and no key."""
    store.set("canary", CANARY)
    key = (tmp_path / "master.key").read_text().strip()
    said = [repr(store), repr(store._keys), repr(store.listed()), repr(store.info("canary"))]
    (tmp_path / "secrets.json").chmod(0o644)
    for call in (lambda: store.get("canary"), lambda: store.get("other")):
        try:
            call()
        except (SecretsRefused, SecretMissing) as error:
            said.append("".join(traceback.TracebackException.from_exception(error).format()))
    assert [text for text in said if CANARY in text or key in text] == []


def test_a_request_does_not_tell_its_value() -> None:
    """The text of a request with a value in it, as a log or a traceback would show it, holds no value."""
    assert CANARY not in repr(SetSecretRequest(value=CANARY)) + repr(RotateSecretRequest(value=CANARY))
    assert CANARY in msgspec.json.encode(SetSecretRequest(value=CANARY)).decode()
