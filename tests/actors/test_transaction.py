"""What a transaction sees and writes: the newest state, its own writes over it, and one write a key."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from actors.errors import DefinitionError, InvalidId, PayloadTooLarge, VersionConflict
from actors.flow.run_info import RunInfo
from actors.state_table import ABSENT, Value
from actors.transaction import WRITES_MAX, WRITTEN_BYTES_MAX, Draft, Transaction
from wal import records as r

INFO = RunInfo("r", "w", Raw(b"null"), session_id="s", tenant="acme", classification="client")


def raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


def opened(info: RunInfo = INFO, limit: int = 1_000, **there: Value) -> tuple[Transaction, Draft]:
    """A transaction over these values of the global scope."""
    draft = Draft(lambda scope, name: there.get(name, ABSENT) if scope == "global" else ABSENT)
    return Transaction(info, draft, limit), draft


def test_reads_see_the_newest_and_its_own_writes() -> None:
    """Values come decoded to the asked type, with the version that they have; absence is the default and version 0."""
    tx, _ = opened(k=Value(raw([1]), 7, False), gone=Value(raw(None), 3, True))
    state = tx.global_state
    assert (state.get("k"), state.get_versioned("k", tuple[int, ...])) == ([1], ((1,), 7))
    assert (state.get("none"), state.get("none", int, 5), state.get_versioned("gone", int, 5)) == (None, 5, (5, 0))
    assert state.put("k", [2]) == 8
    state.get("k").append(3)
    assert state.get_versioned("k") == ([2], 8)
    assert state.put("gone", 1) == 4
    assert state.delete("k") == 8
    assert state.get_versioned("k", default="none") == ("none", 0)
    with pytest.raises(msgspec.ValidationError):
        state.get("gone", str)


def test_a_key_is_written_once() -> None:
    """Whatever is put and deleted in between, one record a key is left, of the version after the one that was there,
    in the order in which the keys were written first; with the run's tenant and classification, and without a key."""
    tx, draft = opened(k=Value(raw(1), 7, False))
    for value in (2, 3):
        assert tx.global_state.put("k", value) == 8
    assert tx.state.put("new", {"a": 1}) == 1
    assert tx.global_state.delete("k") == 8
    assert tx.global_state.put("k", 4, expect_version=0) == 8
    assert tx.session_state.delete("never") == 1
    tx.tenant_state.put("t", None)
    about = {"tenant": "acme", "classification": "client"}
    assert draft.close(INFO) == [
        r.StateWritten("", "global", "k", 8, raw(4), **about),
        r.StateWritten("", "run:r", "new", 1, raw({"a": 1}), **about),
        r.StateWritten("", "session:s", "never", 1, raw(None), True, **about),
        r.StateWritten("", "tenant:acme", "t", 1, raw(None), **about),
    ]


def test_a_condition_that_does_not_hold_changes_nothing() -> None:
    """VersionConflict says what was found; a write of its own counts as the newest."""
    tx, draft = opened(k=Value(raw(1), 7, False), gone=Value(raw(None), 3, True))
    state = tx.global_state
    for refused, words in (
        (lambda: state.put("k", 2, expect_version=6), "expected version 6, found version 7"),
        (lambda: state.delete("k", expect_version=0), "expected version 0, found version 7"),
        (lambda: state.put("gone", 2, expect_version=3), "expected version 3, found no value"),
    ):
        with pytest.raises(VersionConflict, match=words):
            refused()
    state.put("k", 2, expect_version=7)
    with pytest.raises(VersionConflict, match="found version 8"):
        state.put("k", 3, expect_version=7)
    assert state.put("k", 3, expect_version=8) == 8
    assert draft.close(INFO) == [r.StateWritten("", "global", "k", 8, raw(3), tenant="acme", classification="client")]


def test_a_scope_that_the_run_has_not() -> None:
    """A run without a session or a tenant has no such state, and is told so; nor is there a key of any spelling."""
    tx, _ = opened(RunInfo("r", "w", Raw(b"null")))
    with pytest.raises(DefinitionError, match="no session"):
        _ = tx.session_state
    with pytest.raises(DefinitionError, match="no tenant"):
        _ = tx.tenant_state
    for refused in (tx.state.get, tx.state.get_versioned, tx.state.delete, lambda key: tx.state.put(key, 1)):
        with pytest.raises(InvalidId, match="state key"):
            refused("a/b")


def test_a_value_is_bounded() -> None:
    """One that is larger than payloads may be is refused where it is put, and the transaction may go on without."""
    tx, draft = opened(limit=100)
    with pytest.raises(PayloadTooLarge, match="state k is 103 bytes"):
        tx.state.put("k", "x" * 101)
    tx.state.put("k", "x")
    assert [record.value for record in draft.close(INFO)] == [raw("x")]


def test_writes_are_bounded() -> None:
    """So many keys, and so many bytes of them together; what replaces a value counts instead of it."""
    tx, _ = opened()
    for number in range(WRITES_MAX):
        tx.state.put(f"k{number}", number)
    with pytest.raises(PayloadTooLarge, match="at most 1000 values"):
        tx.state.put("one-more", 1)
    assert tx.state.get("one-more") is None
    tx.state.put("k0", "again")

    large = WRITTEN_BYTES_MAX // 2
    tx, draft = opened(limit=WRITTEN_BYTES_MAX)
    for _ in range(5):
        tx.state.put("a", "x" * (large - 2))
    tx.state.put("b", "x" * (large - 2))
    with pytest.raises(PayloadTooLarge, match=f"at most {WRITTEN_BYTES_MAX} bytes"):
        tx.state.put("c", 1)
    tx.state.delete("a")
    tx.state.put("c", 1)
    assert [record.name for record in draft.close(INFO)] == ["a", "b", "c"]


def test_it_ends_with_its_function() -> None:
    """Kept for later it neither reads nor writes: nobody would record that."""
    tx, draft = opened()
    kept = tx.state
    draft.close(INFO)
    for refused in (lambda: kept.get("k"), lambda: tx.global_state.put("k", 1), lambda: kept.delete("k")):
        with pytest.raises(DefinitionError, match="is over"):
            refused()


def test_state_that_cannot_be_read_is_remembered() -> None:
    """Whatever the function makes of it: it is not the function that failed."""

    def broken(scope: str, name: str) -> Value:
        raise OSError("no disk")

    draft = Draft(broken)
    with pytest.raises(OSError, match="no disk"):
        Transaction(INFO, draft, 100).state.get("k", default=1)
    assert isinstance(draft.fault, OSError)


def test_too_deep_a_function_is_its_own_fault() -> None:
    """Where no frame is left, a read is just where it shows: the function fails, not the state."""

    def read(scope: str, name: str) -> Value:
        return read(scope, name)

    draft = Draft(read)
    with pytest.raises(RecursionError):
        Transaction(INFO, draft, 100).state.get("k")
    assert draft.fault is None
