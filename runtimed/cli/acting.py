"""What the changing commands share: a key for repeats, one or several ids, and saying what came of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from runtimed.cli.errors import PARTLY_DONE, tell
from runtimed.cli.shell import Shell
from runtimed.cli.text import cell
from runtimed.client import Client
from runtimed.client_runs import why as why
from wal.errors import RuntimedError


def for_each(shell: Shell, ids: Sequence[str], act: Callable[[Client, str], Awaitable[Any]], done: str) -> int:
    """Do this for each id over one connection and print what came of it.

    Returns 0; the error's exit code if all failed; 8 if some did. As JSON one id gives an object, several an array.
    """

    async def work(client: Client) -> list[Any]:
        results: list[Any] = []
        for one in ids:
            results.append(await _attempt(client, one, act, first=not results))
        return results

    results = shell.ask(work)
    failures = [result for result in results if isinstance(result, RuntimedError)]
    if len(ids) == 1 and failures:
        raise failures[0]
    _print(shell, ids, results, done)
    for failure in failures:
        tell(failure)
    if not failures:
        return 0
    return failures[0].exit_code if len(failures) == len(ids) else PARTLY_DONE


async def _attempt(client: Client, one: str, act: Callable[[Client, str], Awaitable[Any]], *, first: bool) -> Any:
    try:
        return await act(client, one)
    except RuntimedError as error:
        if first and error.code == "daemon_unreachable":
            raise  # with nothing done; later it is one id's error, and what came of those before is told
        return error


def _print(shell: Shell, ids: Sequence[str], results: Sequence[Any], done: str) -> None:
    if shell.output == "json":
        shown = [_as_json(one, result) for one, result in zip(ids, results, strict=True)]
        shell.print_json(msgspec.json.encode(shown[0] if len(shown) == 1 else shown))
        return
    for one, result in zip(ids, results, strict=True):
        if isinstance(result, RuntimedError):
            if shell.output == "jsonl":
                shell.print_json(msgspec.json.encode(_as_json(one, result)))
        elif shell.output == "jsonl":
            shell.print_json(msgspec.json.encode(result))
        elif shell.output == "id":
            shell.print(cell(one))
        else:
            shell.print(f"{cell(one)}: {done}{_at(result)}")


def _at(result: Any) -> str:
    seq = getattr(result, "seq", 0)
    return f" (record {seq})" if seq else ""


def _as_json(one: str, result: Any) -> Any:
    if isinstance(result, RuntimedError):
        return {"id": one, "error": {"code": result.code, "status": result.status, "detail": str(result)}}
    return result
