"""`jepsen-lite sim`: the deterministic simulator, once per seed."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from jepsen_lite.commands.exits import OF_VALIDITY
from jepsen_lite.verdicts import Validity


def parse_seeds(text: str) -> range:
    """`A..B`, both included, or one seed."""
    first, dots, last = text.partition("..")
    try:
        seeds = range(int(first), int(last if dots else first) + 1)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no range of seeds; write 1..100, or 7") from error
    if not seeds:
        raise typer.BadParameter(f"{text!r} is empty; write the smaller seed first")
    return seeds


def sim(
    seeds: Annotated[str, typer.Option(help="A..B, or one seed")],
    seconds: Annotated[float, typer.Option(help="simulated seconds with faults, per seed")] = 30.0,
    keep: Annotated[Path | None, typer.Option(help="write each seed's history here")] = None,
    log: Annotated[bool, typer.Option("--log", help="show what the nodes log")] = False,
    reduce: Annotated[bool, typer.Option(help="look for fewer faults that fail too")] = True,
) -> None:
    """Run the store in a deterministic simulator, once per seed; stops at the first failure."""
    # Imported late: `jepsen-lite --help` must not load the whole store.
    from jepsen_lite.sim.node_logs import configure
    from jepsen_lite.sim.report import describe_failure, describe_pass
    from jepsen_lite.sim.run import draw_plan, run
    from jepsen_lite.sim.shrink import shrunk

    configure(show=log)
    chosen = parse_seeds(seeds)
    operations: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    simulated_s, started_s = 0.0, time.perf_counter()
    for seed in chosen:
        outcome = run(draw_plan(seed, seconds))
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{seed}.jsonl").write_text(outcome.history.to_lines())
        if outcome.problems:
            if reduce:
                outcome = shrunk(outcome)
            typer.echo(describe_failure(outcome))
            raise typer.Exit(OF_VALIDITY[Validity.INVALID])
        simulated_s += outcome.simulated_s
        operations += outcome.operations
        faults += outcome.faults
    wall_s = time.perf_counter() - started_s
    typer.echo(describe_pass(chosen, operations, faults, simulated_s, wall_s))
    if not operations["ok"] or not faults:
        typer.echo("vacuous: no operation succeeded, or no fault took effect")
        raise typer.Exit(OF_VALIDITY[Validity.VACUOUS])
