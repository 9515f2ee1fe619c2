"""`jepsen-lite check`, `list` and `serve`: what runs have left."""

from __future__ import annotations

import functools
import http.server
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from jepsen_lite.commands.exits import OF_VALIDITY
from jepsen_lite.verdicts import overall

STORE = Path("jepsen-store")
LOOPBACK = "127.0.0.1"

StoreOption = Annotated[Path, typer.Option(help="where runs are kept")]


def check(directory: Annotated[Path, typer.Argument(help="of a run, or STORE/latest")]) -> None:
    """Judge an old run again, by the checkers of today."""
    from jepsen_lite.commands.show import show_verdict
    from jepsen_lite.judging import judge
    from jepsen_lite.store import RunDirectory

    run = RunDirectory(directory)
    try:
        findings = judge(run)
    except (OSError, ValueError, KeyError) as error:
        raise typer.BadParameter(f"{directory} holds no run that can be judged: {error}") from error
    show_verdict(run, findings)
    raise typer.Exit(OF_VALIDITY[overall(findings)])


def list_(store: StoreOption = STORE) -> None:
    """List systems, workloads and nemeses, and the runs in the store."""
    from jepsen_lite.nemesis.catalogue import NEMESES
    from jepsen_lite.store import Store
    from jepsen_lite.systems.catalogue import SYSTEMS
    from jepsen_lite.workloads.catalogue import WORKLOADS

    console = Console()
    kinds = Table("", "name", "what it is", box=None)
    for name, system in SYSTEMS.items():
        kinds.add_row("system", name, system.summary)
    for name, make in WORKLOADS.items():
        kinds.add_row("workload", name, (type(make()).__doc__ or "").splitlines()[0])
    for name, nemesis in NEMESES.items():
        kinds.add_row("nemesis", name, nemesis.missing() or nemesis.summary)
    console.print(kinds)
    runs = Table("run", "verdict", "command", title=str(store))
    for run in Store(store).runs():
        runs.add_row(run.path.name, run.validity() or "none", " ".join(run.test()["command"]))
    if runs.row_count:
        console.print(runs)


def serve(
    store: StoreOption = STORE,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8008,
) -> None:
    """Browse the store in a browser, from this machine only. Ctrl-C ends it."""
    if not store.is_dir():
        raise typer.BadParameter(f"{store} is no directory; run something first")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(store))
    with http.server.ThreadingHTTPServer((LOOPBACK, port), handler) as server:
        typer.echo(f"http://{LOOPBACK}:{server.server_port}/latest/report.html")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("")
