"""`runtimed serve`: the daemon in the foreground."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import click

from runtimed.cli.options import Seconds
from runtimed.cli.settings_options import load_settings, settings_options


@click.command()
@settings_options
@click.option("--bind", metavar="HOST:PORT", help="Serve on TCP too: probes and metrics to all, the rest to tokens.")
@click.option(
    "--drain-delay", type=Seconds(), metavar="SECONDS", help="Serve on so long after SIGTERM (2 behind a balancer)."
)
@click.option(
    "--drain-timeout", type=Seconds(), metavar="SECONDS", help="How long steps may take to finish after SIGTERM."
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is logged.")
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), help="How it is logged.")
def serve(**given: Any) -> int:
    """Run the daemon in the foreground.

    SIGTERM and Ctrl-C drain, a second one hurries; SIGHUP reads the settings again; SIGUSR1 logs the task tree.
    """
    load = partial(load_settings, os.environ, Path.cwd(), given)
    settings = load()
    from runtimed.daemon import main  # loads everything there is

    return int(main(settings, again=load))
