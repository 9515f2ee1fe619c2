"""`raftkv recover`: a new cluster from the best disk that is left, where the majority is lost."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raftkv.cli.client_command import Output, options_of
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.output import print_json, print_values
from raftkv.errors import ConfigurationError

if TYPE_CHECKING:
    from raftkv.node.surviving_disks import Assessment, SurvivingDisk

CONFIRMATION = "new cluster"

app = typer.Typer()


@app.callback(invoke_without_command=True)
def recover(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="The best disk: see `raftkv recover inspect`.")
    ] = None,
    new_cluster: Annotated[
        bool, typer.Option("--new-cluster", help="Begin a new cluster of this node alone.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask; what may be lost is printed all the same.")
    ] = False,
) -> None:
    """Begin a new cluster from the best disk, where the majority is lost for good.

    The stopped node of --data-dir becomes a cluster of its own, with what its disk holds; what only
    the lost nodes had acknowledged is gone. Prints what may be lost, and changes nothing without
    --yes, or `new cluster` typed at a terminal. The node begins the new cluster at its next start;
    then add other nodes with `raftkv member add`.
    """
    if context.invoked_subcommand is not None:
        return
    if data_dir is None or not new_cluster:
        raise ConfigurationError(
            "recover begins a new cluster from one disk. Fix: `raftkv recover inspect DIR ...` says"
            " which disk is best; then `raftkv recover --data-dir DIR --new-cluster`"
        )
    from random import SystemRandom

    from raftkv.node.surviving_disks import new_cluster_of, read_disk
    from raftkv.storage.directory import open_stopped_directory

    directory = open_stopped_directory(data_dir)
    try:
        _require_owner(data_dir)
        disk = read_disk(directory)
        identity = new_cluster_of(disk, SystemRandom().getrandbits(64) or 1)
        for line in losses(disk):
            typer.echo(line, err=True)
        if not yes:
            _confirm()
        directory.save(identity)
    finally:
        directory.close()
    print_values(
        options_of(context).output,
        {"node_id": disk.node_id, "incarnation": f"{identity.incarnation:016x}"},
    )
    typer.echo(
        f"Now start node {disk.node_id} on {data_dir}: it is the new cluster. Then add nodes with"
        " new ids: raftkv member add",
        err=True,
    )


@app.command()
def inspect(
    context: typer.Context,
    data_dir: Annotated[list[Path], typer.Argument(help="One or more, of nodes that are stopped.")],
) -> None:
    """Show what these data directories hold, and which one a new cluster should begin from.

    Locks each directory, verifies all its files, and changes nothing. Exits with 6 if none can be
    used.
    """
    from raftkv.node.surviving_disks import assess, read_disk
    from raftkv.storage.directory import open_stopped_directory

    with ExitStack() as opened:
        disks = []
        for path in data_dir:
            directory = open_stopped_directory(path)
            opened.callback(directory.close)
            disks.append(read_disk(directory))
    assessment = assess(disks)
    if options_of(context).output is Output.JSON:
        print_json(_as_json(disks, assessment))
    else:
        _show(disks, assessment)
    if assessment.best is None:
        raise typer.Exit(ExitCode.REFUSED)


def losses(disk: SurvivingDisk) -> list[str]:
    """What the operator loses, or risks, with a new cluster from this disk."""
    id, log = disk.node_id, disk.log
    former = _names(disk.ever_members - {id})
    at_risk = log.last_index - disk.commit_index
    return [
        f"node {id} becomes a cluster of its own, with its log up to entry {log.last_index} of term"
        f" {log.last_term}.",
        f"LOST: every write that {former} acknowledged after that entry and node {id} does not"
        " have, although its caller was told that it is durable.",
        f"COMMITTED from now on: all of this log. Of its last {at_risk} entries node {id} does not"
        " know that they were committed: writes whose callers got an error, or no answer, may"
        " appear."
        if at_risk
        else f"All of this log was committed, as far as node {id} knows.",
        f"REFUSED from now on: {former}, and their ids for ever. Do not start them again: together"
        " they would be a majority of the old cluster, and take writes that the new one lacks.",
        "Connected clients get WrongCluster and must connect anew. They lose their locks, whose"
        " entries stay until the leases end.",
    ]


def has_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _confirm() -> None:
    if not has_terminal():
        raise ConfigurationError(
            "nothing was changed: that needs a confirmation, and there is no terminal to ask at."
            " Fix: read the above, and repeat the command with --yes"
        )
    if typer.prompt(f"Type '{CONFIRMATION}' to go on", err=True) != CONFIRMATION:
        raise ConfigurationError(f"nothing was changed: that was not '{CONFIRMATION}'")


def _require_owner(data_dir: Path) -> None:
    """The node's user must own what is written, or the node can't read it."""
    import pwd

    owner = data_dir.stat().st_uid
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise ConfigurationError(
            f"{data_dir} belongs to another user, who could not read what this command writes. Fix:"
            f" run it as that user, as with sudo -u '{name}'"
        )


def _names(node_ids: frozenset[int]) -> str:
    return f"node{'' if len(node_ids) == 1 else 's'} {', '.join(map(str, sorted(node_ids)))}"


def _as_json(disks: list[SurvivingDisk], assessment: Assessment) -> dict[str, Any]:
    best = assessment.best
    return {
        "disks": [_fields(disk) for disk in disks],
        "best": None if best is None else str(best.path),
        "reasons": assessment.reasons,
        "warnings": assessment.warnings,
    }


def _fields(disk: SurvivingDisk) -> dict[str, Any]:
    identity, membership = disk.identity, disk.membership
    return {
        "data_dir": str(disk.path),
        "node_id": disk.node_id,
        "cluster": f"{identity.cluster_id:016x}",
        "cluster_name": identity.cluster_name,
        "incarnation": f"{identity.incarnation:016x}",
        "term": disk.current_term,
        "last_log_term": disk.log.last_term,
        "last_log_index": disk.log.last_index,
        "commit_index": disk.commit_index,
        "applied_index": disk.applied_index,
        "running_hash": f"{disk.last_hash:016x}",
        "voters": sorted(membership.all_voters),
        "learners": sorted(membership.learners),
        "unusable": "" if disk.unusable is None else disk.unusable.message,
    }


def _show(disks: list[SurvivingDisk], assessment: Assessment) -> None:
    for disk in disks:
        fields = _fields(disk)
        for name in ("voters", "learners"):
            fields[name] = " ".join(map(str, fields[name])) or "-"
        print_values(Output.TABLE, {**fields, "unusable": fields["unusable"] or "-"})
        typer.echo()
    best = assessment.best
    typer.echo(f"best: {'none' if best is None else f'node {best.node_id} in {best.path}'}")
    for line in (*assessment.reasons, *(f"warning: {each}" for each in assessment.warnings)):
        typer.echo(f"  {line}")
