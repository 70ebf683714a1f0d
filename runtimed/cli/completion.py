"""`runtimed completion SHELL`: the script that makes a shell complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_RUNTIMED_COMPLETE"

# As click's, but for the colons in our ids, at which readline splits words: the parts that nothing stands between are
# one word again, and of what is offered only that is given which goes after the last colon, since readline keeps the
# rest. A word in quotes is not split, and so not touched.
BASH = r"""%(complete_func)s() {
    local IFS=$'\n'
    local response completion type value line=$COMP_LINE part word="" before="" at count=0
    local -a words=()

    for ((at = 0; at <= COMP_CWORD; at++)); do
        part=${COMP_WORDS[at]}
        if [[ -n $part && $line == "$part"* && ($part == :* || $before == *:) ]]; then
            word+=$part
        else
            word=$part
            ((count++))
        fi
        words[count - 1]=$word
        line=${line#*"$part"}
        before=$part
    done
    if [[ $word == "$part" ]]; then
        before=""
    else
        before=${word%%"${word##*:}"}
    fi

    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((count - 1)) %(complete_var)s=bash_complete $1)

    for completion in $response; do
        IFS=',' read type value <<< "$completion"

        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("${value#"$before"}")
        fi
    done

    return 0
}

%(complete_func)s_setup() {
    complete -o nosort -F %(complete_func)s %(prog_name)s
}

%(complete_func)s_setup;
"""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL; for bash: eval "$(runtimed completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    maker = kind(click.get_current_context().find_root().command, {}, "runtimed", VARIABLE)
    # not maker.source(): it runs the shell to ask for its version, which need not be installed where this runs
    click.echo((BASH if shell == "bash" else maker.source_template) % maker.source_vars())
