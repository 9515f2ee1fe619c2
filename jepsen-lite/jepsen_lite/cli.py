"""The `jepsen-lite` command."""

from __future__ import annotations

import traceback

import typer

from jepsen_lite.commands.mutants import mutants
from jepsen_lite.commands.mutate import mutate
from jepsen_lite.commands.past_runs import check, list_, replay, serve
from jepsen_lite.commands.power_cuts import power_cuts
from jepsen_lite.commands.run import run
from jepsen_lite.commands.sim import sim
from jepsen_lite.commands.soak import soak
from jepsen_lite.verdicts import EXIT_CODES, Validity

USAGE = 254
"""The exit code of a wrong use."""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.callback()
def jepsen_lite() -> None:
    """Inject faults into a replicated store, and check what its clients observed."""


for command in (run, sim, power_cuts, replay, check, mutants, mutate, soak, serve):
    app.command()(command)
app.command("list")(list_)


def main() -> None:
    """Run the command; wrong usage exits with 254, a failure of the harness with the code of
    UNKNOWN.
    """
    try:
        app()
    except Exception:  # noqa: BLE001 - Python would end with 1, which accuses the system
        traceback.print_exc()
        raise SystemExit(EXIT_CODES[Validity.UNKNOWN]) from None
    except SystemExit as ending:
        # Typer's code for a wrong use is also ours for an unknown verdict.
        wrong_use = ending.code == 2 and not isinstance(ending.__context__, typer.Exit)
        raise SystemExit(USAGE if wrong_use else ending.code) from None
