"""`jepsen-lite replay`: repeat a seed or a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer


def replay(
    what: Annotated[str, typer.Argument(help="a seed of the simulator, or a run's directory")],
    scenario: Annotated[str | None, typer.Option(help="of the seed")] = None,
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
        options = {"--scenario": scenario, "--seconds": seconds, "--rate": rate}
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
