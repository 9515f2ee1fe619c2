"""`jepsen-lite replay`: do again what failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer


def replay(
    what: Annotated[str, typer.Argument(help="a seed of the simulator, or a run's directory")],
    seconds: Annotated[float, typer.Option(help="simulated seconds with faults")] = 30.0,
) -> None:
    """One seed of the simulator with the nodes' logs, or a real run with the same seed and faults.

    A simulated run is repeated to the byte. A real one has the same operations and faults, and its
    own luck with time.
    """
    from jepsen_lite.store import RunDirectory

    if what.isdecimal():
        command = ["sim", "--seeds", what, "--seconds", f"{seconds:g}", "--log"]
    else:
        try:
            command = list(RunDirectory(Path(what)).test()["command"])[1:]
        except (OSError, ValueError, KeyError) as error:
            raise typer.BadParameter(f"{what} is neither a seed nor a run: {error}") from error
    typer.echo(f"jepsen-lite {' '.join(command)}")
    ended = subprocess.run([sys.executable, "-m", "jepsen_lite", *command], check=False)
    raise typer.Exit(ended.returncode)
