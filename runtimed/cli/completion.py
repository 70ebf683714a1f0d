"""`runtimed completion SHELL`: the script that makes a shell complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_RUNTIMED_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL; for bash: eval "$(runtimed completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    maker = kind(click.get_current_context().find_root().command, {}, "runtimed", VARIABLE)
    # not maker.source(): it runs the shell to ask for its version, which need not be installed where this runs
    click.echo(maker.source_template % maker.source_vars())
