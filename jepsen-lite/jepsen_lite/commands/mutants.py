"""`jepsen-lite mutants`: does the harness notice what real systems shipped?"""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from jepsen_lite.commands.sim import COLUMNS, parse_seeds
from jepsen_lite.verdicts import EXIT_CODES, Validity

if TYPE_CHECKING:
    from jepsen_lite.mutants.hunt import Hunt

SHOWN_MAX = 90


def mutants(
    names: Annotated[list[str] | None, typer.Argument(help="default: all of them")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="processes at once")] = os.cpu_count() or 1,
    default: Annotated[
        bool,
        typer.Option(
            "--default", help="run the seeds of the default run, as `sim` does without a scenario"
        ),
    ] = False,
    seeds: Annotated[str, typer.Option(help="of --default: A..B, or one seed")] = "1..100",
) -> None:
    """Plant known bugs in raftkv and look for each; run the clean system under the same faults."""
    # Imported late: `jepsen-lite --help` must not load the whole store.
    from jepsen_lite.mutants.catalogue import MUTANTS
    from jepsen_lite.mutants.hunt import HuntVerdict, carry_out, hunts, hunts_by_default

    unknown = sorted(set(names or ()) - MUTANTS.keys())
    if unknown:
        known = ", ".join(MUTANTS)
        raise typer.BadParameter(f"no such mutant: {', '.join(unknown)}; there are {known}")
    chosen = list(dict.fromkeys(names or MUTANTS))
    asked = hunts_by_default(chosen, parse_seeds(seeds)) if default else hunts(chosen)
    ends: Counter[HuntVerdict] = Counter()
    # A line that goes to a file must not be taken to the terminal where the bar is.
    with Progress(
        *COLUMNS,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        bar = progress.add_task("hunts", total=len(asked))
        for ended in carry_out(asked, jobs):
            ends[ended.verdict] += 1
            typer.echo(_described(ended))
            progress.advance(bar)
    caught, alarms = ends[HuntVerdict.CAUGHT], ends[HuntVerdict.ALARM]
    if default:
        otherwise = ends[HuntVerdict.NOTICED]
        typer.echo(
            f"mutants: found {caught + otherwise}/{len(chosen)} by the default run, {otherwise} of"
            " them by another finding than the expected one"
        )
        if ends[HuntVerdict.BROKEN]:
            raise typer.Exit(EXIT_CODES[Validity.INVALID])
        return
    typer.echo(f"mutants: caught {caught}/{len(chosen)}, false alarms {alarms}")
    if caught < len(chosen) or alarms:
        raise typer.Exit(EXIT_CODES[Validity.INVALID])


def _described(ended: Hunt) -> str:
    """A line of the table, with more detail for an unexpected end."""
    from jepsen_lite.mutants.hunt import HuntVerdict

    verdict = f"{ended.verdict:7}"
    took = f"{ended.wall_s:6.1f} s"
    match ended.verdict:
        case HuntVerdict.CAUGHT | HuntVerdict.NOTICED:
            where = f"{ended.scenario} {ended.seed}"
            return f"{verdict} {ended.mutant:36} {where:18} {took}  {ended.problem[:SHOWN_MAX]}"
        case HuntVerdict.MISSED:
            instead = f"noticed instead: {ended.problem}" if ended.problem else ""
            where = f"{ended.runs} runs"
            return f"{verdict} {ended.mutant:36} {where:18} {took}  {instead}".rstrip()
        case HuntVerdict.BROKEN:
            return f"{verdict} {ended.mutant}: {ended.problem}"
        case HuntVerdict.CLEAN:
            return f"{verdict} {ended.scenario:36} {ended.runs:3} runs           {took}"
        case HuntVerdict.ALARM:
            return f"{verdict} clean: {ended.scenario} {ended.seed}\n{ended.report}"
