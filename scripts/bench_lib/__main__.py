"""The command line of scripts/bench."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from bench_lib import (
    check_perf,
    failover,
    growth,
    handover,
    leases,
    machine,
    plot,
    report,
    security,
    summary,
    throughput,
    watches,
)
from bench_lib.etcd_cluster import require_etcd
from bench_lib.processes import ServerFailed
from bench_lib.results import Measurement, Results
from bench_lib.summary import OURS, THEIRS

KEYS_SMALL = 10_000
GROWTH_WRITERS = 100
LOCK_NAMES = 100
TABLE_WIDTH = 120  # of the widest table; also where the output is not a terminal


class Experiment(enum.StrEnum):
    PUTS = "puts"
    GETS = "gets"
    FAILOVER = "failover"
    RESTART = "restart"
    GROWTH = "growth"
    LOCKS = "locks"
    FOLLOWER = "follower"
    LEASES = "leases"
    WATCHES = "watches"
    CHECK_PERF = "check-perf"


class Against(enum.StrEnum):
    ETCD = "etcd"
    NONE = "none"
    ONLY = "only-etcd"


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    systems: tuple[str, ...]
    experiments: frozenset[Experiment]
    secure: bool
    writers: tuple[int, ...]
    readers: int
    rounds: int
    seconds: float
    value_bytes: int
    keys: int
    kills: int
    restarts: int
    directory: Path


async def run(options: Options, results: Results, console: Console) -> None:
    """The experiments one after the other; `results` grows as they find something."""
    task = asyncio.current_task()
    assert task is not None
    # As Ctrl-C does: an end that stops the servers first.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if options.secure:
        puts = throughput.put_workloads(options.writers, options.value_bytes, options.seconds)
        plan = security.Plan(tuple(puts), options.rounds, options.directory / "security")
        async for measurement in security.run(plan):
            results.security.append(measurement)
            console.print(report.progress_line(measurement), highlight=False)
        return
    chosen = options.experiments
    workloads = []
    if Experiment.PUTS in chosen:
        workloads += throughput.put_workloads(options.writers, options.value_bytes, options.seconds)
    if Experiment.GETS in chosen:
        workloads.append(
            throughput.get_workload(
                options.readers, KEYS_SMALL, options.value_bytes, options.seconds
            )
        )
    if Experiment.LOCKS in chosen:
        wanted = throughput.lock_workloads(LOCK_NAMES, options.value_bytes, options.seconds)
        workloads += [each for each in wanted if each not in workloads]
    if Experiment.FOLLOWER in chosen:
        workloads += throughput.follower_workloads(
            options.readers, KEYS_SMALL, options.value_bytes, options.seconds
        )
    if workloads:
        async for measurement in throughput.run(
            throughput.Plan(options.systems, tuple(workloads), options.rounds, options.directory)
        ):
            results.throughput.append(measurement)
            console.print(report.progress_line(measurement), highlight=False)
    if chosen & {Experiment.GROWTH, Experiment.RESTART}:
        await _growth(options, results, console)
    if Experiment.FAILOVER in chosen:
        for system in options.systems:
            directory = options.directory / f"{system}-failover"
            async for found in failover.run(system, options.kills, directory):
                results.failover.append(found)
                console.print(
                    f"{system:>6}  leader killed: next acknowledged write after"
                    f" {found.write_s:.2f} s, longest wait {found.longest_wait_s:.2f} s",
                    highlight=False,
                )
    if OURS in options.systems:
        await _coordination(options, results, console)
    if Experiment.CHECK_PERF in chosen and THEIRS in options.systems:
        console.print("  etcd  etcdctl check perf (a minute)", highlight=False)
        results.etcdctl_check_perf.extend(await check_perf.run(options.directory / "check-perf"))


async def _coordination(options: Options, results: Results, console: Console) -> None:
    if Experiment.LOCKS in options.experiments:
        async for found in handover.run(options.rounds, options.directory / "handover"):
            results.handovers.append(found)
            console.print("\n".join(summary.handover_lines([found])), highlight=False)
    if Experiment.LEASES in options.experiments:
        async for upkeep in leases.run(options.rounds, options.directory / "leases"):
            results.upkeep.append(upkeep)
            console.print("\n".join(summary.upkeep_lines([upkeep])), highlight=False)
    if Experiment.WATCHES in options.experiments:
        async for delivery in watches.run(
            options.rounds, options.seconds, options.directory / "watches"
        ):
            results.deliveries.append(delivery)
            console.print("\n".join(summary.delivery_lines([delivery])), highlight=False)


async def _growth(options: Options, results: Results, console: Console) -> None:
    plan = growth.Plan(
        keys_small=KEYS_SMALL,
        keys_large=options.keys,
        writers=GROWTH_WRITERS,
        value_bytes=options.value_bytes,
        seconds=options.seconds,
        rounds=options.rounds if Experiment.GROWTH in options.experiments else 0,
        restarts=options.restarts if Experiment.RESTART in options.experiments else 0,
        directory=options.directory,
    )
    for system in options.systems:
        console.print(f"{system:>6}  filling a store with {options.keys:,} keys", highlight=False)
        async for found in growth.run(system, plan):
            if isinstance(found, Measurement):
                results.growth.append(found)
                console.print(report.progress_line(found), highlight=False)
            else:
                results.restart.append(found)
                console.print(
                    f"{system:>6}  killed node with {found.keys:,} keys: serves after"
                    f" {found.ready_s:.2f} s, {found.rss_bytes_settled / 1e6:.0f} MB resident",
                    highlight=False,
                )


def main(
    against: Annotated[
        Against, typer.Option(help="what raftkv is measured against")
    ] = Against.ETCD,
    only: Annotated[
        str, typer.Option(help="experiments, with commas: " + ",".join(Experiment))
    ] = ",".join(Experiment),
    secure: Annotated[
        bool,
        typer.Option(
            "--secure",
            help="measure only what TLS and authentication cost: puts by --writers on three"
            " clusters of raftkv in turn",
        ),
    ] = False,
    writers: Annotated[str, typer.Option(help="concurrent writers, with commas")] = "1,100,1000",
    readers: Annotated[int, typer.Option(min=1, help="concurrent readers")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="rounds; the medians count")] = 3,
    seconds: Annotated[float, typer.Option(min=0.5, help="length of a measurement")] = 5.0,
    value_bytes: Annotated[int, typer.Option(min=1, help="size of a value")] = 256,
    keys: Annotated[int, typer.Option(min=20_000, help="keys of the large store")] = 1_000_000,
    failover_kills: Annotated[
        int, typer.Option("--failover", min=1, help="how often the leader is killed")
    ] = 20,
    restarts: Annotated[int, typer.Option(min=1, help="restarts on the large store")] = 3,
    out: Annotated[Path, typer.Option(help="where bench.json and bench.png go")] = Path(
        "out/bench"
    ),
    directory: Annotated[
        Path, typer.Option("--dir", help="where all nodes keep their data; a real disk")
    ] = Path("data/bench"),
) -> None:
    """Measure a 3-node raftkv beside a 3-node etcd on this machine: same disk, both syncing."""
    options = Options(
        systems={
            Against.ETCD: (OURS, THEIRS),
            Against.NONE: (OURS,),
            Against.ONLY: (THEIRS,),
        }[against],
        experiments=_experiments(only),
        secure=secure,
        writers=_numbers(writers),
        readers=readers,
        rounds=rounds,
        seconds=seconds,
        value_bytes=value_bytes,
        keys=keys,
        kills=failover_kills,
        restarts=restarts,
        directory=directory.absolute(),
    )
    if THEIRS in options.systems and not secure:
        require_etcd()
    console = Console(width=max(Console().width, TABLE_WIDTH), soft_wrap=True)
    for path in (out, options.directory):
        path.mkdir(parents=True, exist_ok=True)
    results = Results(
        machine=machine.describe(options.directory),
        arguments={each.name: str(getattr(options, each.name)) for each in _fields(options)},
    )
    _say_machine(results, console)
    try:
        uvloop.run(run(options, results, console))
    except (asyncio.CancelledError, KeyboardInterrupt):
        console.print("[bold red]Interrupted.[/bold red]")
        raise typer.Exit(130) from None
    except ServerFailed as error:
        console.print(f"[bold red]Stopped early.[/bold red] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from None
    finally:
        # What was measured before an interruption is not thrown away.
        report.show(results, console)
        (out / "bench.json").write_text(json.dumps(dataclasses.asdict(results), indent=1))
        plot.draw(results, out / "bench.png")


def _fields(options: Options) -> tuple[dataclasses.Field[object], ...]:
    return dataclasses.fields(options)


def _say_machine(results: Results, console: Console) -> None:
    facts = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    console.print(f"[bold]{facts}[/bold]", highlight=False)
    if "tmpfs" in facts:
        console.print("[bold red]--dir is in memory: nothing is really synced there.[/bold red]")
    if os.getloadavg()[0] > 0.5:
        console.print("[yellow]Something else keeps this machine busy: expect noise.[/yellow]")


def _experiments(text: str) -> frozenset[Experiment]:
    try:
        return frozenset(Experiment(word.strip()) for word in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{error}; choose from {', '.join(Experiment)}") from None


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(word) for word in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers like 1,100") from None
    if min(found) < 1:
        raise typer.BadParameter("a load needs at least one writer")
    return found


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
