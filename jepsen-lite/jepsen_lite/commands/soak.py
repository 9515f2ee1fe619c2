"""`jepsen-lite soak`: random runs of all kinds, until one fails or the time is over."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from jepsen_lite.commands.past_runs import STORE, StoreOption
from jepsen_lite.commands.run import READ_WHOLE_HISTORIES
from jepsen_lite.verdicts import EXIT_CODES, Validity

SECONDS = (20, 40, 60)
SIZES = (3, 3, 5)
SEEDS_AT_A_TIME = 50
SEEDS = 1_000_000_000
POWER_CUTS_SHARE = 0.1
POWER_CUTS = 1_000
POWER_CUT_STEPS = 120
HARMLESS = {EXIT_CODES[Validity.VALID], EXIT_CODES[Validity.VACUOUS]}


def soak(
    minutes: Annotated[float, typer.Option(min=0.0, help="begin nothing more after these")],
    store: StoreOption = STORE,
    jobs: Annotated[int, typer.Option(min=1, help="processes for seeds of the simulator")] = 2,
    seed: Annotated[int | None, typer.Option(help="of all the choices; default: any")] = None,
) -> None:
    """Random workloads under random faults, real, simulated and of power cuts, until one fails."""
    from jepsen_lite.sim.report import commit, shell_line

    seed = random.randrange(SEEDS) if seed is None else seed
    typer.echo(f"soak with seed {seed}")
    rng = random.Random(seed)
    until_s = time.monotonic() + 60 * minutes
    ends: Counter[int] = Counter()
    while time.monotonic() < until_s:
        command = choose(rng, jobs, store)
        typer.echo(f"jepsen-lite {' '.join(command)}")
        run = [sys.executable, "-m", "jepsen_lite", *command]
        ended = subprocess.run(run, capture_output=True, text=True, check=False)
        ends[ended.returncode] += 1
        if ended.returncode not in HARMLESS:
            typer.echo(ended.stdout + ended.stderr)
            if command[0] == "run":  # `sim` prints it itself, for the seed that failed
                typer.echo(f"commit {commit()}, replay: {shell_line(command)}")
            raise typer.Exit(ended.returncode)
    valid, vacuous = (ends[EXIT_CODES[each]] for each in (Validity.VALID, Validity.VACUOUS))
    typer.echo(f"{valid} runs valid, {vacuous} proved nothing, none failed")
    if not valid:
        raise typer.Exit(EXIT_CODES[Validity.VACUOUS])


def choose(rng: random.Random, jobs: int, store: Path) -> list[str]:
    """What to run next: the arguments of `jepsen-lite`."""
    from jepsen_lite.power_cuts.recorder import missing

    drawn = rng.random()
    if drawn < POWER_CUTS_SHARE and not missing():
        return _power_cuts(rng, store)
    return _simulated(rng, jobs, store) if drawn < 0.5 else _real(rng, store)


def _power_cuts(rng: random.Random, store: Path) -> list[str]:
    command = ["power-cuts", "--seed", str(rng.randrange(SEEDS)), "--store", str(store)]
    return [*command, "--steps", str(POWER_CUT_STEPS), "--cuts", str(POWER_CUTS)]


def _simulated(rng: random.Random, jobs: int, store: Path) -> list[str]:
    from jepsen_lite.sim.scenarios import SCENARIOS

    first = rng.randrange(SEEDS)
    seeds = f"{first}..{first + SEEDS_AT_A_TIME - 1}"
    command = ["sim", "--seeds", seeds, "--jobs", str(jobs), "--store", str(store)]
    # As often as all scenarios together: the default run, which mixes them.
    if rng.random() < 0.5:
        command += ["--scenario", rng.choice(sorted(SCENARIOS))]
    return command


def _real(rng: random.Random, store: Path) -> list[str]:
    from jepsen_lite.db.catalogue import DATABASES
    from jepsen_lite.nemesis.catalogue import NEMESES
    from jepsen_lite.workloads.catalogue import ON_PROCESSES

    workloads = rng.sample(sorted(ON_PROCESSES), rng.randint(1, 4))
    possible = sorted(name for name in DATABASES["raftkv"].nemeses if not NEMESES[name].missing())
    nemeses = rng.sample(possible, rng.randint(1, 4))
    if set(workloads) & set(READ_WHOLE_HISTORIES):
        nemeses = [name for name in nemeses if name != "compaction"] or ["kill"]
    command = ["run", "--workload", ",".join(workloads), "--nemesis", ",".join(nemeses)]
    command += ["--seconds", str(rng.choice(SECONDS)), "--nodes", str(rng.choice(SIZES))]
    return [*command, "--seed", str(rng.randrange(SEEDS)), "--store", str(store)]
