"""`jepsen-lite power-cuts`: the real stores after power cuts between any two file operations."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepsen_lite.commands.past_runs import STORE, StoreOption
from jepsen_lite.verdicts import EXIT_CODES, Validity

if TYPE_CHECKING:
    from jepsen_lite.power_cuts.campaign import Cut, CutFigures

CUTS = 300
MOUNTED_CUTS = 60
KINDS = {
    "w": "writes",
    "s": "syncs",
    "f": "flushes",
    "n": "notes",
    "c": "files created",
    "u": "removed",
    "t": "truncated",
    "r": "renamed",
    "l": "linked",
    "m": "directories made",
}


def power_cuts(
    seed: Annotated[int, typer.Option(help="of the workload, the cuts and the torn blocks")] = 1,
    cuts: Annotated[
        int | None,
        typer.Option(min=1, help=f"power cuts to try: {CUTS}, {MOUNTED_CUTS} on a file system"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="steps of the workload")] = 60,
    recording: Annotated[
        Path | None, typer.Option(help="cut this recording, and make no new one")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="only this cut: OPERATIONS:MODEL, such as 120:torn")
    ] = None,
    mutant: Annotated[list[str] | None, typer.Option(help="plant this bug in the stores")] = None,
    file_system: Annotated[
        bool, typer.Option("--file-system", help="cut below a real ext4, as root, with FUSE")
    ] = False,
    store: StoreOption = STORE,
) -> None:
    """Record a workload on the real stores, cut the power at many moments, and reopen them."""
    # Imported late: `jepsen-lite --help` must not load the whole store.
    from jepsen_lite.power_cuts import campaign
    from jepsen_lite.power_cuts import file_system as mounted
    from jepsen_lite.power_cuts.failures import described_failures, keep_recording
    from jepsen_lite.power_cuts.logged_disk import read_log
    from jepsen_lite.power_cuts.mutants import STORAGE_MUTANTS
    from jepsen_lite.power_cuts.recorder import RecorderFailed, missing, read
    from jepsen_lite.sim.node_logs import configure

    unknown = sorted(set(mutant or ()) - STORAGE_MUTANTS.keys())
    if unknown:
        known = ", ".join(STORAGE_MUTANTS)
        raise typer.BadParameter(f"no such mutant: {', '.join(unknown)}; there are {known}")
    lacking = mounted.missing() if file_system else "" if recording else missing()
    if lacking:
        typer.echo(f"unknown: {lacking}")
        raise typer.Exit(EXIT_CODES[Validity.UNKNOWN])
    configure(show=False)
    started_s = time.perf_counter()
    chosen = [_cut(only)] if only else []
    with campaign.scratch_directory() as directory, mounted.ended_in_order():
        try:
            record = mounted.make_recording if file_system else campaign.make_recording
            file = recording or record(directory, seed, steps, mutant or ())
            if file_system:
                blocks = read_log(file)
                chosen = chosen or mounted.draw_cuts(blocks, seed, cuts or MOUNTED_CUTS)
                figures = mounted.carry_out(blocks, seed, chosen)
            else:
                operations = read(file)
                chosen = chosen or campaign.draw_cuts(operations, seed, cuts or CUTS)
                figures = campaign.carry_out(operations, seed, chosen)
        except RecorderFailed as error:
            typer.echo(f"unknown: {error}")
            raise typer.Exit(EXIT_CODES[Validity.UNKNOWN]) from error
        typer.echo(_described(figures, time.perf_counter() - started_s))
        if not figures.problems:
            return
        kept = recording or keep_recording(file, store, seed)
    for failure in described_failures(figures, kept, seed, "--file-system" * file_system):
        typer.echo(failure)
    raise typer.Exit(EXIT_CODES[Validity.INVALID])


def _cut(text: str) -> Cut:
    from jepsen_lite.power_cuts.campaign import Cut
    from jepsen_lite.power_cuts.disk import CutModel

    operations, _, model = text.partition(":")
    try:
        return Cut(int(operations), CutModel(model))
    except ValueError as error:
        models = ", ".join(CutModel)
        raise typer.BadParameter(
            f"{text!r} is no cut; write 120:torn; the models are {models}"
        ) from error


def _described(figures: CutFigures, wall_s: float) -> str:
    what = "disk" if figures.operations["f"] else "file"
    operations = ", ".join(
        f"{figures.operations[kind]} {name}"
        for kind, name in KINDS.items()
        if figures.operations[kind]
    )
    acknowledged = ", ".join(f"{n} {name}" for name, n in sorted(figures.acknowledged.items()))
    models = ", ".join(
        f"{model} {figures.cuts[model]}"
        + (f" ({figures.refused[model]} refused)" if figures.refused[model] else "")
        for model in sorted(figures.cuts)
    )
    verdict = (
        f"{len(figures.problems)} of them lost or invented something" if figures.problems else ""
    )
    return (
        f"recorded: {sum(figures.operations.values())} {what} operations ({operations})\n"
        f"acknowledged: {acknowledged}\n"
        f"power cuts: {sum(figures.cuts.values())} ({models}) in {wall_s:.1f} s:"
        f" {verdict or 'every one left what was promised'}"
    )
