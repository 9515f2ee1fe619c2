"""`jepsen-lite check`, `list`, `serve` and `replay`: the runs of a store."""

from __future__ import annotations

import functools
import http
import http.server
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from jepsen_lite.verdicts import EXIT_CODES, overall

if TYPE_CHECKING:
    from jepsen_lite.store import RunDirectory


STORE = Path("jepsen-store")
LOOPBACK = "127.0.0.1"

StoreOption = Annotated[Path, typer.Option(help="where runs are kept")]


def check(directory: Annotated[Path, typer.Argument(help="of a run, or STORE/latest")]) -> None:
    """Judge an old run again, by the checkers of today."""
    from jepsen_lite.checkers.linearizable.processes import KeyProcesses
    from jepsen_lite.commands.show import Display, show_verdict
    from jepsen_lite.judge import judge
    from jepsen_lite.store import RunDirectory

    run = RunDirectory(directory)
    try:
        with Display() as display, KeyProcesses() as processes:
            display.phase("judge", None)
            findings = judge(run, display.step, processes.map)
    except FileNotFoundError as error:
        missing = Path(error.filename or "").name
        raise typer.BadParameter(
            f"{directory} holds no run: it has no {missing}; `jepsen-lite list` has those there are"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise typer.BadParameter(f"{directory} holds no run that can be judged: {error}") from error
    show_verdict(run, findings)
    raise typer.Exit(EXIT_CODES[overall(findings)])


def list_(store: StoreOption = STORE) -> None:
    """List systems, workloads, nemeses and the simulator's scenarios, and the runs in the store."""
    from jepsen_lite.db.catalogue import DATABASES
    from jepsen_lite.nemesis.catalogue import NEMESES
    from jepsen_lite.report.format import count
    from jepsen_lite.sim.scenarios import SCENARIOS
    from jepsen_lite.store import Store
    from jepsen_lite.workloads.catalogue import WORKLOADS

    console = Console()
    kinds = Table("", "name", "what it is", box=None)
    for name, kind in DATABASES.items():
        kinds.add_row("system", name, kind.summary)
    for name, make in WORKLOADS.items():
        kinds.add_row("workload", name, (type(make()).__doc__ or "").splitlines()[0])
    for name, nemesis in NEMESES.items():
        kinds.add_row("nemesis", name, nemesis.missing() or nemesis.summary)
    for name, scenario in SCENARIOS.items():
        # Its first sentence, which may go over two lines.
        summary = " ".join((scenario.__doc__ or "").split()).partition(". ")[0]
        kinds.add_row("scenario", name, summary.rstrip("."))
    console.print(kinds)
    runs = list(Store(store).runs())
    typer.echo(f"\n{count(len(runs), 'run')} in {store}")
    for run in runs:  # in lines, whole, so that they can be copied
        typer.echo(f"{run.path.name}: {run.validity() or 'not judged'}\n  {_command(run)}")


def _command(run: RunDirectory) -> str:
    """One run that can't be read must not hide the others."""
    try:
        return shlex.join(run.test()["command"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"unreadable: {error}"


def serve(
    store: StoreOption = STORE,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8008,
) -> None:
    """Browse the store in a browser, from this machine only. Ctrl-C ends it."""
    if not store.is_dir():
        raise typer.BadParameter(f"{store} is no directory; run something first")
    handler = functools.partial(_Browsing, directory=str(store))
    try:
        server = http.server.ThreadingHTTPServer((LOOPBACK, port), handler)
    except OSError as error:
        raise typer.BadParameter(f"port {port}: {error.strerror}; --port 0 finds one") from error
    with server:
        typer.echo(f"http://{LOOPBACK}:{server.server_port}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("")


class _Browsing(http.server.SimpleHTTPRequestHandler):
    """The store's files, below a page of its runs. Lines are shown, not downloaded."""

    def do_GET(self) -> None:
        if self.path == "/":
            self._show_runs()
        else:
            super().do_GET()

    def _show_runs(self) -> None:
        from jepsen_lite.report.index import index
        from jepsen_lite.store import Store

        page = index(Store(Path(self.directory))).encode(errors="backslashreplace")
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        lines = str(path).endswith((".jsonl", ".log"))
        return "text/plain; charset=utf-8" if lines else super().guess_type(path)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""


def replay(
    what: Annotated[str, typer.Argument(help="a seed of the simulator, or a run's directory")],
    scenario: Annotated[str | None, typer.Option(help="of the seed")] = None,
    workload: Annotated[str | None, typer.Option(help="of the seed, as of `sim`")] = None,
    seconds: Annotated[float | None, typer.Option(help="of the seed, as of `sim`")] = None,
    rate: Annotated[float | None, typer.Option(help="of the seed, as of `sim`")] = None,
) -> None:
    """One seed of the simulator with the nodes' logs, or a run of any kind from its directory.

    A simulated run is repeated to the byte, by the same code. A real one has the same operations
    and faults, and its own luck with time.
    """
    from jepsen_lite.store import RunDirectory

    if what.isdecimal():
        command = ["sim", "--seeds", what]
        options = {
            "--scenario": scenario,
            "--workload": workload,
            "--seconds": seconds,
            "--rate": rate,
        }
        for option, value in options.items():
            command += [] if value is None else [option, str(value)]
        command += ["--log"]
    else:
        try:
            test = RunDirectory(Path(what)).test()
            command = list(test["command"])[1:]
        except FileNotFoundError as error:
            raise typer.BadParameter(
                f"{what} is neither a seed (a number) nor a run's directory (with a test.json)"
            ) from error
        except (OSError, ValueError, KeyError) as error:
            raise typer.BadParameter(f"{what} is neither a seed nor a run: {error}") from error
        typer.echo(f"recorded at commit {test.get('commit', 'unknown')}")
    typer.echo(f"jepsen-lite {' '.join(command)}")
    ended = subprocess.run([sys.executable, "-m", "jepsen_lite", *command], check=False)
    raise typer.Exit(ended.returncode)
