"""`runtimed runs ...`: start, look at, wait for and steer runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from runtimed.cli.completing import run_argument, run_arguments
from runtimed.cli.options import SEQ, key_option, page_options, reason_option, watch_option, with_shell
from runtimed.cli.shell import Shell

if TYPE_CHECKING:
    from runtimed.client import Client

STATUSES = ["queued", "running", "waiting", "paused", "compensating", "blocked", "completed", "failed", "cancelled"]


@click.group()
def runs() -> None:
    """Start, look at, wait for and steer runs."""


# --- looking --------------------------------------------------------------------------------------------------------


@runs.command("list")
@click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="Only these; may be repeated.")
@click.option("--workflow", metavar="NAME", help="Only this workflow's.")
@click.option("--session", "session_id", metavar="ID", help="Only this session's.")
@click.option("--tenant", metavar="NAME", help="Only this tenant's.")
@click.option("--attr", "attributes", multiple=True, metavar="K=V", help="Only with this attribute; may be repeated.")
@page_options
@watch_option
@with_shell
def list_(shell: Shell, statuses: tuple[str, ...], attributes: tuple[str, ...], watch: bool, **given: Any) -> None:
    """List runs, newest first."""
    from runtimed.cli.inputs import read_texts
    from runtimed.cli.lists import emit_list

    filters = {key: given.pop(key) for key in ("workflow", "session_id", "tenant")}
    filters |= {"status": list(statuses) or None, "attributes": read_texts(attributes, "--attr") or None}
    shell.watch(
        lambda: emit_list(shell, lambda source, **page: source.runs(**filters, **page), _show_runs, **given),
        again=watch,
    )


def _show_runs(shell: Shell, items: list[dict[str, Any]]) -> None:
    from runtimed.cli.text import instant, table

    rows = [
        (run["id"], run["workflow"], run["status"], instant(run["created_at"]), instant(run["ended_at"]), _waits(run))
        for run in items
    ]
    if rows:
        table(shell, ["ID", "WORKFLOW", "STATUS", "CREATED", "ENDED", "WHY"], rows)


def _waits(run: dict[str, Any]) -> str | None:
    """What a run waits for, or why it stands or failed, in one line."""
    from runtimed.cli.text import instant

    if run["error"] is not None and run["status"] in ("failed", "blocked", "compensating"):
        return f"{run['error']['type']}: {run['error']['message']}"
    if run["waiting_on"] is None:
        return None
    until = instant(run["waiting_until"])
    return f"{run['waiting_on']} until {until}" if until else str(run["waiting_on"])


@runs.command()
@run_argument
@watch_option
@with_shell
def show(shell: Shell, run_id: str, watch: bool) -> None:
    """Show a run whole."""
    from runtimed.cli.text import emit_one

    def once() -> None:
        emit_one(shell, shell.read(lambda source: source.run(run_id)), lambda run: _show_run(shell, run))

    shell.watch(once, again=watch)


def _show_run(shell: Shell, run: dict[str, Any]) -> None:
    from runtimed.cli.text import fields

    error = run.get("error")
    shown = {**run, "error": None if error is None else f"{error['type']}: {error['message']}"}
    if error is not None and error["step"]:
        shown["error"] += f" (step {error['step']})"
    fields(shell, [(name.replace("_", " "), value) for name, value in shown.items()])


@runs.command()
@run_argument
@with_shell
def explain(shell: Shell, run_id: str) -> None:
    """Say in words how a run stands, why, and what can be done."""
    from runtimed.cli.explain import explain as in_words

    in_words(shell, run_id)


@runs.command()
@run_argument
@click.option("--after", type=SEQ, default=0, help="Only records beyond this one.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="How many.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@with_shell
def history(shell: Shell, run_id: str, after: int, limit: int, everything: bool) -> None:
    """Show the records of a run, oldest first."""
    from runtimed.cli.lists import emit_after

    emit_after(
        shell,
        lambda source, **page: source.history(run_id, **page),
        show_records,
        after=after,
        limit=limit,
        everything=everything,
    )


def show_records(shell: Shell, items: list[dict[str, Any]]) -> None:
    """Records as a table; used for histories and for the feed."""
    from runtimed.cli.record_text import in_words, to_the_millisecond
    from runtimed.cli.text import table

    rows = [
        (record["seq"], to_the_millisecond(record["at"]), record["kind"], record["call"], *in_words(record))
        for record in items
    ]
    if rows:
        table(shell, ["SEQ", "AT", "KIND", "CALL", "NAME", "WHAT"], rows)


@runs.command()
@run_argument
@click.option("--after", type=SEQ, default=0, help="Only what came after this record.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="How many.")
@click.option("--all", "everything", is_flag=True, help="All of it.")
@with_shell
def output(shell: Shell, run_id: str, after: int, limit: int, everything: bool) -> None:
    """Show what a run has emitted."""
    from runtimed.cli.lists import emit_after
    from runtimed.cli.text import table

    emit_after(
        shell,
        lambda source, **page: source.outputs(run_id, **page),
        lambda shell, items: table(shell, ["SEQ", "AT", "VALUE"], [(i["seq"], i["at"], i["value"]) for i in items]),
        after=after,
        limit=limit,
        everything=everything,
    )


@runs.command()
@run_argument
@with_shell
def wait(shell: Shell, run_id: str) -> None:
    """Wait for a run to end and print its result.

    Ends with 0 and the result, 20 failed, 21 cancelled, 22 blocked, 7 if --timeout went by.
    """
    _print_result(shell, run_id)


def _print_result(shell: Shell, run_id: str) -> None:
    from runtimed.cli.waiting import wait as wait_telling

    body = shell.ask(lambda client: wait_telling(shell, client, run_id), bounded=False)
    if shell.output == "id":
        shell.print(run_id)
    elif shell.output == "text":
        from runtimed.cli.text import cell

        value = msgspec.json.decode(body)
        if value is not None:
            shell.print(cell(value))
    else:
        shell.print_json(body)


# --- starting -------------------------------------------------------------------------------------------------------


@runs.command()
@click.argument("workflow")
@click.argument("given_input", metavar="[INPUT]", default="null")
@click.option("--id", "run_id", metavar="ID", help="The run's id; starting it again gives the same run.")
@click.option("--session", "session_id", metavar="ID", help="The session it belongs to.")
@click.option("--tenant", metavar="NAME", help="The tenant it belongs to.")
@click.option("--queue", metavar="NAME", help="The queue it goes through.")
@click.option("--priority", type=int, default=0, help="Higher comes first.")
@click.option("--start-at", metavar="INSTANT", help="When to begin, such as 2026-01-31T12:00:00Z.")
@click.option("--attr", "attributes", multiple=True, metavar="K=V", help="A searchable attribute; may be repeated.")
@click.option("--wait", "wait_for_it", is_flag=True, help="Wait for it to end, as `runs wait` does.")
@reason_option
@key_option
@with_shell
def start(shell: Shell, workflow: str, given_input: str, run_id: str | None, wait_for_it: bool, **given: Any) -> None:
    """Start a run of WORKFLOW. When this ends with 0, the run is on disk.

    INPUT is JSON, @FILE or - for stdin; without it, null.
    """
    from runtimed.cli.inputs import read_instant, read_json, read_pairs

    attributes = read_pairs(given.pop("attributes"), "--attr")
    reason, key, start_at = (given.pop(name) for name in ("reason", "idempotency_key", "start_at"))
    if reason is not None:
        attributes["reason"] = reason
    body = {"workflow": workflow, "input": read_json(given_input, "INPUT"), "id": run_id, "attributes": attributes}
    body |= {**given, "start_at": None if start_at is None else read_instant(start_at, "--start-at")}
    answer = shell.ask(lambda client: _post(client.because(reason), body, key))
    started = msgspec.json.decode(answer)
    if wait_for_it:
        shell.note(f"{started['id']}: {started['status']}")
        _print_result(shell, started["id"])
        return
    _print_started(shell, answer, started)


async def _post(client: Client, body: dict[str, Any], key: str | None) -> bytes:
    return await client.link.post("/v1/runs", {name: value for name, value in body.items() if value is not None}, key)


def _print_started(shell: Shell, answer: bytes, started: dict[str, Any]) -> None:
    from runtimed.cli.text import cell

    if shell.output in ("json", "jsonl"):
        shell.print_json(answer)
    elif shell.output == "id":
        shell.print(cell(started["id"]))
    else:
        there = "" if started["created"] else " (it was there already)"
        shell.print(f"{cell(started['id'])}: {cell(started['status'])}{there}")


# --- steering -------------------------------------------------------------------------------------------------------


@runs.command()
@run_argument
@click.argument("name")
@click.argument("value", default="null")
@click.option("--signal-id", metavar="ID", help="A repeat with the same id changes nothing.")
@reason_option
@key_option
@with_shell
def signal(shell: Shell, run_id: str, name: str, value: str, signal_id: str | None, **given: Any) -> int:
    """Send a run the signal NAME with a VALUE: JSON, @FILE or - for stdin; without it, null."""
    from runtimed.cli.acting import for_each
    from runtimed.cli.inputs import read_json

    body = {"name": name, "value": read_json(value, "VALUE")} | ({"signal_id": signal_id} if signal_id else {})
    key = given["idempotency_key"]
    return for_each(
        shell,
        [run_id],
        lambda client, one: client.because(given["reason"]).act(one, "signal", body, key),
        f"signal {name} is recorded",
    )


@runs.command()
@run_arguments
@click.option("--dry-run", is_flag=True, help="Ask nothing; list what would be undone, in its order.")
@reason_option
@with_shell
def cancel(shell: Shell, ids: tuple[str, ...], dry_run: bool, reason: str | None) -> int:
    """Cancel runs: what they have done is undone."""
    from runtimed.cli.acting import for_each, why

    if dry_run:
        from runtimed.cli.undoing import preview

        return preview(shell, ids)
    return for_each(shell, ids, lambda client, one: client.act(one, "cancel", why(reason)), "cancel is recorded")


@runs.command()
@run_arguments
@reason_option
@with_shell
def pause(shell: Shell, ids: tuple[str, ...], reason: str | None) -> int:
    """Hold runs where they stand; what arrives meanwhile is kept."""
    from runtimed.cli.acting import for_each, why

    return for_each(shell, ids, lambda client, one: client.act(one, "pause", why(reason)), "paused")


@runs.command()
@run_arguments
@reason_option
@with_shell
def resume(shell: Shell, ids: tuple[str, ...], reason: str | None) -> int:
    """Let paused runs go on."""
    from runtimed.cli.acting import for_each, why

    return for_each(shell, ids, lambda client, one: client.act(one, "resume", why(reason)), "resumed")


@runs.command()
@run_arguments
@reason_option
@with_shell
def retry(shell: Shell, ids: tuple[str, ...], reason: str | None) -> int:
    """Let blocked runs try again from where they stand."""
    from runtimed.cli.acting import for_each, why

    return for_each(shell, ids, lambda client, one: client.act(one, "retry", why(reason)), "tries again")


@runs.command()
@run_argument
@click.argument("call")
@click.option("--happened/--did-not-happen", "happened", default=None, help="What you found out.")
@click.option("--result", metavar="JSON", default="null", help="What it returned, if it happened: JSON, @FILE or -.")
@reason_option
@key_option
@with_shell
def resolve(shell: Shell, run_id: str, call: str, happened: bool | None, result: str, **given: Any) -> int:
    """Say whether the CALL of unknown outcome of a blocked run happened."""
    from runtimed.cli.acting import for_each, why
    from runtimed.cli.inputs import read_json

    if happened is None:
        raise click.UsageError("say --happened or --did-not-happen: that is the question")
    body = {"call": call, "happened": happened, "result": read_json(result, "--result"), **why(given["reason"])}
    key = given["idempotency_key"]
    return for_each(
        shell,
        [run_id],
        lambda client, one: client.act(one, "resolve", body, key),
        f"call {call} is resolved",
    )


@runs.command()
@run_argument
@click.option("--at", "at_seq", metavar="SEQ", type=SEQ, required=True, help="The record, of `history`.")
@click.option("--id", "new_id", metavar="ID", help="The id of the new run; else one is made of both.")
@reason_option
@key_option
@with_shell
def fork(shell: Shell, run_id: str, at_seq: int, new_id: str | None, **given: Any) -> int:
    """Start a new run with the past of this one up to a record.

    What was open there it asks for anew; what was done it takes over, and undoes if it fails. The run itself goes on.
    """
    from runtimed.cli.acting import why
    from runtimed.cli.text import cell

    body = {"at_seq": at_seq, **({} if new_id is None else {"id": new_id}), **why(given["reason"])}
    made = shell.ask(lambda client: client.act(run_id, "fork", body, given["idempotency_key"]))
    if shell.output in ("json", "jsonl"):
        shell.print_json(msgspec.json.encode(made))
    elif shell.output == "id":
        shell.print(cell(made.id))
    else:
        shell.print(f"{cell(made.id)}: begins with the past of {cell(run_id)} at record {at_seq} (record {made.seq})")
    return 0
