"""`import runtimed` is the only public name: complete, said once, and lazy."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import typing

import pytest

import runtimed

CONTRACT = {
    "App", "Context", "Retry", "Failure", "Rejected", "current_step", "open_runtime", "Client", "RuntimedError",
    "StepFailed", "ChildFailed", "ForeignAwait", "PayloadTooLarge", "DuplicateName", "RunFailed", "RunCancelled",
    "RunBlocked",
}  # fmt: skip


def test_the_contracts_names_are_there() -> None:
    """Every name that the contract speaks of can be imported from `runtimed`."""
    assert set(runtimed.__all__) >= CONTRACT
    for name in CONTRACT:
        assert getattr(runtimed, name).__name__


def test_each_name_is_exported_once_from_where_it_is_defined() -> None:
    """`__all__` has no doubles, each name leads somewhere, and `dir` lists them; what is not there is said to be so."""
    names = runtimed.__all__
    assert sorted(set(names)) == sorted(names)
    for name in names:
        assert getattr(runtimed, name) is not None
    assert set(dir(runtimed)) >= set(names)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = runtimed.nonsense


def test_the_types_are_told_as_they_are() -> None:
    """What a type checker is told (the block for it) and what is imported at run time are the same names."""
    tree = ast.parse(inspect.getsource(runtimed))
    told = {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.If)
        for one in ast.walk(node)
        if isinstance(one, ast.ImportFrom)
        for alias in one.names
    }
    assert told == set(runtimed.__all__)


def test_every_error_of_ours_is_exported() -> None:
    """Errors that a user can meet derive from RuntimedError, carry a status and a code, and are public."""
    for module in ("actors.errors", "wal.errors"):
        for value in vars(importlib.import_module(module)).values():
            if isinstance(value, type) and issubclass(value, runtimed.RuntimedError) and value.__module__ == module:
                assert 400 <= value.status < 600 and value.code, value
                assert value.__name__ in runtimed.__all__, value


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running some code."""
    program = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


@pytest.mark.slow
def test_the_client_loads_neither_trio_nor_the_journal() -> None:
    """`import runtimed` loads nothing to speak of; `runtimed.client` neither trio nor SQLite nor a server."""
    heavy = {"trio", "apsw", "hypercorn", "starlette", "textual"}
    assert not loaded_by("import runtimed") & (heavy | {"msgspec", "actors", "anyio"})
    assert not loaded_by("import runtimed.client, runtimed.wire") & heavy
    assert not loaded_by("import runtimed; runtimed.App; runtimed.Failure") & (heavy - {"trio"})


def test_the_hints_of_what_is_public_resolve() -> None:
    """Annotations of the classes that users handle mean something at run time too."""
    for value in (runtimed.App.step, runtimed.Runtime.start, runtimed.Handle.result, runtimed.Context.sleep):
        assert typing.get_type_hints(value) is not None
