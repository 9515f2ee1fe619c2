"""`raftkv config show`: what a node would run with, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from raftkv.cli import settings_flags as flags
from raftkv.cli.options import Output, options_of
from raftkv.cli.output import print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Look at a node's settings.")


@app.callback()
def _group() -> None: ...


@app.command()
def show(
    context: typer.Context,
    config: flags.Config = None,
    node_id: flags.NodeId = None,
    assignments: flags.Assignments = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value comes from.")
    ] = False,
) -> None:
    """Every setting that `raftkv serve` would start with, from file, environment and flags.

    Printed as a TOML file that says the same, with what each setting means.
    """
    loaded = flags.load_settings(config, {"node_id": node_id}, assignments)
    rows = loaded.rows()
    if options_of(context).output is Output.JSON:
        print_json(
            {
                name: {"value": value, "origin": place} if origin else value
                for name, value, place in rows
            }
        )
    elif origin:
        print_table(["setting", "value", "origin"], rows)
    else:
        typer.echo(loaded.as_toml())
