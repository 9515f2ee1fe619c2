"""The `jepsen-lite` command."""

from __future__ import annotations

import typer

from jepsen_lite.commands.exits import USAGE
from jepsen_lite.commands.inspect import check, list_, serve
from jepsen_lite.commands.replay import replay
from jepsen_lite.commands.run import run
from jepsen_lite.commands.sim import sim
from jepsen_lite.commands.soak import soak
from jepsen_lite.mutants.cli import mutants

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.callback()
def jepsen_lite() -> None:
    """Break a replicated store on purpose, and judge what its clients saw."""


for command in (run, sim, replay, check, mutants, soak, serve):
    app.command()(command)
app.command("list")(list_)


def main() -> None:
    """Run the command; a wrong use of it ends with 254."""
    try:
        app()
    except SystemExit as ending:
        # Typer's code for a wrong use is also ours for an unknown verdict.
        wrong_use = ending.code == 2 and not isinstance(ending.__context__, typer.Exit)
        raise SystemExit(USAGE if wrong_use else ending.code) from None
