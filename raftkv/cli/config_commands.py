"""`raftkv config show`, `check` and `reload`: the settings of a node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raftkv.cli import client_command
from raftkv.cli import settings_flags as flags
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.exit_codes import ExitCode, exit_code_of
from raftkv.cli.output import print_json, print_table
from raftkv.errors import InvalidRequest, RaftkvError

if TYPE_CHECKING:
    from raftkv.client.client import Client
    from raftkv.client.model.status import SettingChange

app = typer.Typer(no_args_is_help=True, help="Show, check and reload a node's settings.")


@app.callback()
def _config() -> None: ...


@app.command("show")
def config_show(
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


@app.command("check")
def config_check(
    context: typer.Context,
    config: Annotated[
        list[Path] | None,
        typer.Option(
            "--config",
            "-c",
            help="TOML file with settings; repeated: each is checked by itself. [RAFTKV_CONFIG]",
        ),
    ] = None,
    node_id: flags.NodeId = None,
    assignments: flags.Assignments = None,
) -> None:
    """Check the settings that `raftkv serve` would start with, and the files that they name.

    Prints every problem it finds; a later one may follow from an earlier one. Reads the data
    directory, opens no port, and calls no other node. Exits with 2 if there is a problem.
    """
    named = os.environ.get("RAFTKV_CONFIG")
    found: dict[str, list[RaftkvError]] = {}
    files: list[Path | None] = [*(config or ())] or [Path(named) if named else None]
    for file in files:
        name = str(file) if file else "environment and flags"
        found[name] = _problems(file, node_id, assignments)
    if options_of(context).output is Output.JSON:
        print_json({name: [_as_json(each) for each in found[name]] for name in found})
    else:
        for name, problems in found.items():
            for problem in problems:
                typer.echo(f"{name}: {problem.message}")
            if not problems:
                typer.echo(f"{name}: valid")
    if any(found.values()):
        raise typer.Exit(ExitCode.USAGE)


def _problems(
    file: Path | None, node_id: str | None, assignments: list[str] | None
) -> list[RaftkvError]:
    from raftkv.config_sources import check
    from raftkv.server.config_check import problems_of_files

    given = flags.given_flags({"node_id": node_id}, assignments)
    loaded, problems = check(file, os.environ, given)
    return [*problems, *(problems_of_files(loaded.settings) if loaded is not None else ())]


def _as_json(problem: RaftkvError) -> dict[str, str]:
    return {
        "key": problem.facts.get("key", ""),
        "origin": problem.facts.get("origin", ""),
        "message": problem.message,
    }


@app.command("reload")
def config_reload(context: typer.Context) -> None:
    """Let running nodes read their settings again: those that --endpoints names.

    Each reads its own file, with the environment and flags that it was started with, as on SIGHUP.
    Prints which settings have changed, and which wait for a restart. Exits with 2 if a node has
    found an invalid setting, which changes nothing there, and with 4 if one did not answer.
    """
    outcomes = client_command.run(context, _reload_all)
    if options_of(context).output is Output.JSON:
        print_json({endpoint: _outcome_as_json(each) for endpoint, each in outcomes.items()})
    else:
        rows = [row for endpoint, each in outcomes.items() for row in _rows(endpoint, each)]
        print_table(["node", "setting", "before", "after", "effect"], rows)
    errors = [each for each in outcomes.values() if isinstance(each, RaftkvError)]
    if errors:
        invalid = [each for each in errors if isinstance(each, InvalidRequest)]
        raise typer.Exit(exit_code_of((invalid or errors)[0]))


Outcome = dict[str, "tuple[SettingChange, ...]"]


async def _reload_all(client: Client) -> dict[str, Outcome | RaftkvError]:
    outcomes: dict[str, Outcome | RaftkvError] = {}
    for endpoint in client.endpoints:
        try:
            done = await client.reload_config(endpoint)
        except RaftkvError as error:
            outcomes[endpoint] = error
        else:
            outcomes[endpoint] = {"changed": done.changed, "needs restart": done.needs_restart}
    return outcomes


def _outcome_as_json(outcome: Outcome | RaftkvError) -> dict[str, Any]:
    if isinstance(outcome, RaftkvError):
        return {"error": outcome.message}
    return {
        effect.replace(" ", "_"): {
            each.name: {"before": each.before, "after": each.after} for each in changes
        }
        for effect, changes in outcome.items()
    }


def _rows(endpoint: str, outcome: Outcome | RaftkvError) -> list[tuple[str, str, str, str, str]]:
    if isinstance(outcome, RaftkvError):
        return [(endpoint, "", "", "", f"failed: {outcome.message}")]
    rows = [
        (endpoint, each.name, each.before, each.after, effect)
        for effect, changes in outcome.items()
        for each in changes
    ]
    return rows or [(endpoint, "", "", "", "nothing has changed")]
