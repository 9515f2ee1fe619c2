"""`jepsen-lite mutants`: does the harness notice what real systems shipped?"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from jepsen_lite.commands.exits import OF_VALIDITY
from jepsen_lite.verdicts import Validity

TOLD_MAX = 90


def mutants(
    names: Annotated[list[str] | None, typer.Argument(help="default: all of them")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="processes at once")] = os.cpu_count() or 1,
) -> None:
    """Plant known bugs in raftkv and look for each; run the clean system under the same faults."""
    # Imported late: `jepsen-lite --help` must not load the whole store.
    from jepsen_lite.mutants.catalogue import MUTANTS
    from jepsen_lite.mutants.hunt import Hunt, hunt_all

    unknown = sorted(set(names or ()) - MUTANTS.keys())
    if unknown:
        known = ", ".join(MUTANTS)
        raise typer.BadParameter(f"no such mutant: {', '.join(unknown)}; there are {known}")
    chosen = list(dict.fromkeys(names or MUTANTS))
    caught: list[Hunt] = []
    alarms: list[Hunt] = []
    for ended in hunt_all(chosen, jobs):
        if ended.mutant:
            caught += [ended] if ended.problem else []
            verdict = "caught" if ended.problem else "MISSED"
            where = f"{ended.scenario} {ended.seed}" if ended.problem else f"{ended.runs} runs"
            told = ended.problem[:TOLD_MAX]
            typer.echo(f"{verdict}  {ended.mutant:36} {where:18} {ended.wall_s:6.1f} s  {told}")
        elif ended.problem:
            alarms.append(ended)
            typer.echo(f"ALARM   clean: {ended.scenario} {ended.seed}\n{ended.report}")
        else:
            typer.echo(
                f"clean   {ended.scenario:36} {ended.runs:3} runs           {ended.wall_s:6.1f} s"
            )
    typer.echo(f"mutants: caught {len(caught)}/{len(chosen)}, false alarms {len(alarms)}")
    if len(caught) < len(chosen) or alarms:
        raise typer.Exit(OF_VALIDITY[Validity.INVALID])
