"""`jepsen-lite run`: real processes, real faults."""

from __future__ import annotations

import asyncio
import os
import platform
import random
import shutil
import signal
import time
import traceback
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from jepsen_lite.options import RunOptions
from jepsen_lite.verdicts import EXIT_CODES, Validity, overall

if TYPE_CHECKING:
    from jepsen_lite.db.catalogue import DatabaseKind
    from jepsen_lite.store import RunDirectory

ALL, NONE = "all", "none"
USUAL = ("kill", "pause", "partition")
READ_WHOLE_HISTORIES = ("counter", "fenced-lock")


def run(
    workload: Annotated[str, typer.Option(help="names with commas between them, or all")],
    system: Annotated[
        str, typer.Option(help="what to break: see `jepsen-lite list`; or MODULE:ATTRIBUTE")
    ] = "raftkv",
    nemesis: Annotated[
        str | None,
        typer.Option(
            help="names with commas between them, all, or none; default: those of"
            f" {', '.join(USUAL)} that the system supports"
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="with faults")] = 30.0,
    nodes: Annotated[int, typer.Option(help="3, 5 or 7; a system may allow others")] = 3,
    concurrency: Annotated[int, typer.Option(min=1, help="clients")] = 10,
    rate: Annotated[float, typer.Option(min=0.1, help="operations per second, over all")] = 100.0,
    seed: Annotated[int | None, typer.Option(help="of operations and faults; default: any")] = None,
    endpoints: Annotated[str, typer.Option(help="of a cluster that runs already")] = "",
    store: Annotated[Path, typer.Option(help="where runs are kept")] = Path("jepsen-store"),
) -> None:
    """Run workloads on a real cluster while a nemesis breaks it, and judge what was seen."""
    # Imported late: `jepsen-lite --help` must not load the whole store.
    from jepsen_lite.db.catalogue import database_kind
    from jepsen_lite.nemesis.catalogue import NEMESES
    from jepsen_lite.nemesis.schedule import shortest_s
    from jepsen_lite.workloads.catalogue import ON_PROCESSES

    try:
        kind = database_kind(system)
    except LookupError as error:
        raise typer.BadParameter(str(error)) from error
    if nodes not in kind.sizes:
        raise typer.BadParameter(f"{nodes} nodes; choose {' or '.join(map(str, kind.sizes))}")
    if nemesis is None:
        nemesis = ",".join(name for name in USUAL if name in kind.nemeses) or NONE
    nemeses = _chosen("nemesis", nemesis, kind.nemeses)
    workloads = _chosen("workload", workload, kind.workloads or ON_PROCESSES)
    if "compaction" in nemeses and workload == ALL:
        workloads = tuple(name for name in workloads if name not in READ_WHOLE_HISTORIES)
    seed = random.randrange(1_000_000) if seed is None else seed
    options = RunOptions(
        system, workloads, nemeses, seconds, nodes, concurrency, rate, seed, endpoints
    )
    lacks = [kind.missing(options), *(NEMESES[name].missing() for name in nemeses)]
    whole = [name for name in workloads if name in READ_WHOLE_HISTORIES]
    if whole and "compaction" in nemeses:
        lacks.append(f"not with compaction: {', '.join(whole)} read whole histories in the end")
    if nemeses and seconds < shortest_s(len(nemeses)):
        lacks.append(
            f"{seconds:g} seconds are too few for a turn of each of {len(nemeses)} kinds of faults;"
            f" say --seconds {shortest_s(len(nemeses)):g} or more, or choose fewer"
        )
    if any(lacks):
        raise typer.BadParameter("; ".join(filter(None, lacks)))
    raise typer.Exit(EXIT_CODES[_carry_out(options, kind, store, workload.replace(",", "+"))])


def _carry_out(options: RunOptions, kind: DatabaseKind, store: Path, name: str) -> Validity:
    from jepsen_lite.checkers.linearizable.processes import KeyProcesses
    from jepsen_lite.commands.show import Display, show_verdict
    from jepsen_lite.db.catalogue import RunPaths
    from jepsen_lite.judge import judge
    from jepsen_lite.run import Run
    from jepsen_lite.sim.report import commit
    from jepsen_lite.store import Store

    directory = Store(store).new_run(name, datetime.now(UTC))
    data = directory.path / "data"
    database = kind.make(options, RunPaths(data, directory.logs))
    with Display() as display:
        a_run = Run(options, database, directory, _command(options, store), display)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signalled(a_run.execute()))
        uncollected = _collect_messages(data, time.monotonic_ns() - a_run.now_ns(), directory)
        test = directory.test()
        versions = {**test["versions"], "python": platform.python_version()}
        crash = "\n".join(filter(None, (test["crash"], uncollected)))
        directory.write_test({**test, "commit": commit(), "versions": versions, "crash": crash})
        display.phase("judge", None)
        with KeyProcesses() as processes:
            findings = judge(directory, display.step, processes.map)
    validity = overall(findings)
    if validity is Validity.VALID:
        shutil.rmtree(data, ignore_errors=True)  # only a failed run's data is kept
    show_verdict(directory, findings)
    return validity


def _collect_messages(data: Path, began_ns: int, directory: RunDirectory) -> str:
    """Join what the nodes have traced; why not, if that fails. The verdict does not need it."""
    from jepsen_lite.node_traces import collect
    from jepsen_lite.store import MESSAGES

    try:
        collect(data, began_ns, directory.path / MESSAGES)
    except Exception:  # noqa: BLE001 - what was seen is judged and reported
        return f"the nodes' messages could not be collected:\n{traceback.format_exc()}"
    return ""


async def _until_signalled(work: Coroutine[object, object, None]) -> None:
    """SIGTERM and SIGHUP end it as Ctrl-C does: what was started is ended, what was broken mended.

    A second one does not interrupt that.
    """
    task, loop = asyncio.create_task(work), asyncio.get_running_loop()
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def end() -> None:
        if not task.cancelling():
            task.cancel()

    def hang_up() -> None:
        # The terminal may be gone: output to it must not fail.
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in terminals:
            os.dup2(null, stream)
        os.close(null)
        end()

    loop.add_signal_handler(signal.SIGTERM, end)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        loop.add_signal_handler(signal.SIGHUP, hang_up)
    await task


def _chosen(what: str, text: str, possible: Iterable[str]) -> tuple[str, ...]:
    """The names in a list with commas, in their order; `all` and, for a nemesis, `none`."""
    known = sorted(possible)
    if text == ALL:
        return tuple(known)
    names = tuple(name for name in text.split(",") if name and name != NONE)
    unknown = [name for name in names if name not in known]
    if unknown or (not names and text != NONE):
        raise typer.BadParameter(
            f"{what} {', '.join(unknown) or text!r} is not possible here; choose of"
            f" {', '.join(known)}"
        )
    return tuple(dict.fromkeys(names))


def _command(options: RunOptions, store: Path) -> list[str]:
    """What repeats this run."""
    command = ["jepsen-lite", "run", "--system", options.system]
    command += ["--workload", ",".join(options.workloads)]
    command += ["--nemesis", ",".join(options.nemeses) or NONE]
    command += ["--seconds", f"{options.seconds:g}", "--nodes", str(options.nodes)]
    command += ["--concurrency", str(options.concurrency), "--rate", f"{options.rate:g}"]
    command += ["--seed", str(options.seed), "--store", str(store)]
    return command + (["--endpoints", options.endpoints] if options.endpoints else [])
