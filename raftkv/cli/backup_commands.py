"""`raftkv backup`: saves the whole state to a file, checks such a file, and restores from it."""

from __future__ import annotations

import time
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.output import print_json, print_values, size
from raftkv.errors import ConfigurationError, ConnectionFailed

if TYPE_CHECKING:
    from raftkv.backup.file import BackupReader, BackupWriter
    from raftkv.client.client import Client
    from raftkv.raft.entry import Address

app = typer.Typer(no_args_is_help=True, help="Backups of the whole cluster.")

KeyFile = Annotated[
    Path | None,
    typer.Option(
        help="The key of an encrypted backup: a file as `raftkv secret new` writes it.",
        show_default="not encrypted",
    ),
]
BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the backup.")]


@app.command()
def save(
    context: typer.Context,
    file: BackupFile,
    key_file: KeyFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Save all keys, users and roles to FILE, as of one revision, while the cluster goes on.

    The backup is of a follower among --endpoints, if there is one. FILE appears once it is complete
    and on the disk. Whoever reads it reads every key, and the hashes of all passwords.
    """
    key = _read_key(key_file)
    if file.exists() and not force:
        raise ConfigurationError(
            f"{file} exists and is left as it is. Fix: name another file, or give --force."
        )
    saved = client_command.run(context, lambda client: _save(client, file, key, force))
    print_values(options_of(context).output, {"file": str(file), **saved})


@app.command()
def verify(context: typer.Context, file: BackupFile, key_file: KeyFile = None) -> None:
    """Read all of FILE as a restore would: every checksum and every row."""
    from raftkv.backup.file import BackupReader
    from raftkv.backup.restored_directory import check_rows

    with BackupReader(file) as reader:
        counted = check_rows(reader, _read_key(key_file))
        print_values(
            options_of(context).output,
            {
                "file": str(file),
                "whole": True,
                "revision": reader.header.backup.revision,
                "keys": counted.keys,
                "keys_of_leases": counted.keys_of_leases,
            },
        )


@app.command()
def show(context: typer.Context, file: BackupFile) -> None:
    """Say what FILE is a backup of. It reads the header alone, which is never encrypted."""
    from raftkv.backup.file import BackupReader

    output = options_of(context).output
    with BackupReader(file) as reader:
        fields = _described(reader)
        if output is Output.JSON:
            print_json(fields)
        else:
            fields["saved"] = datetime.fromtimestamp(fields.pop("saved_ms") / 1000, UTC).isoformat(
                sep=" ", timespec="seconds"
            )
            fields["size"] = size(fields.pop("size_bytes"))
            print_values(output, fields)


@app.command()
def restore(
    context: typer.Context,
    file: BackupFile,
    data_dir: Annotated[Path, typer.Option(help="Where to make it: new, or an empty directory.")],
    node_id: Annotated[int, typer.Option(min=1, help="The node that the directory is for.")],
    initial_members: Annotated[
        str,
        typer.Option(
            help="All nodes of the new cluster: id=peer_host:port/client_host:port,... The same for"
            " every node."
        ),
    ],
    restore_id: Annotated[
        str,
        typer.Option(
            help="What the restore of the first node printed. Without it, this is the first one.",
            show_default="a new one",
        ),
    ] = "",
    cluster_name: Annotated[
        str,
        typer.Option(help="The new cluster's name.", show_default="that in the backup"),
    ] = "",
    key_file: KeyFile = None,
) -> None:
    """Make the data directory of one node of a new cluster from FILE.

    Run it once for each of --initial-members, on its machine, with the same FILE, and with the
    restore id that the first run prints. Then start the nodes. The old cluster must not run any
    more: clients could not tell the two apart by their addresses.
    """
    from secrets import token_hex

    from raftkv.backup.file import BackupReader
    from raftkv.backup.restored_directory import Target
    from raftkv.backup.restored_directory import restore as make_directory
    from raftkv.cli import event_loop

    with BackupReader(file) as reader:
        target = Target(
            cluster_name or reader.header.backup.cluster_name,
            _members(initial_members),
            restore_id or token_hex(8),
        )
        key = _read_key(key_file)
        made = event_loop.run(make_directory(reader, key, target, data_dir, node_id))
    print_values(
        options_of(context).output,
        {
            "data_dir": str(data_dir),
            "cluster_name": target.cluster_name,
            "incarnation": f"{made.incarnation:016x}",
            "restore_id": target.restore_id,
            "revision": made.revision,
            "keys": made.keys,
            "keys_of_leases": made.keys_of_leases,
        },
    )
    others = [id for id in target.members if id != node_id]
    if others and not restore_id:
        typer.echo(
            f"next: make the directories of node {', '.join(map(str, others))} with the same"
            f" command and --restore-id {target.restore_id}",
            err=True,
        )


async def _save(client: Client, file: Path, key: bytes | None, force: bool) -> dict[str, object]:
    from raftkv.client.backup_stream import backup_parts, node_for_backup

    writer: BackupWriter | None = None
    address = await node_for_backup(client)
    async with aclosing(backup_parts(client, address)) as parts:
        try:
            first = await anext(parts)
            if not first.HasField("backup"):
                raise ConnectionFailed(f"{address} sends no backup")
            writer = _begin(file, first.backup, key, force)
            with _Progress() as progress:
                async for part in parts:
                    if part.HasField("end"):
                        writer.finish(part.end)
                        break
                    writer.rows(part.rows)
                    progress.show(writer.bytes)
        finally:
            if writer is not None:
                writer.close()
    return {
        "node": first.backup.node_id,
        "revision": first.backup.revision,
        "bytes": writer.bytes,
        "encrypted": key is not None,
    }


def _begin(file: Path, header: Any, key: bytes | None, force: bool) -> BackupWriter:
    from secrets import token_bytes

    from raftkv.backup.file import BackupWriter
    from raftkv.rpc.v1 import api_pb2

    whole = api_pb2.BackupFileHeader(
        id=token_bytes(16), saved_ms=time.time_ns() // 1_000_000, backup=header
    )
    return BackupWriter(file, whole, key, replace=force)


class _Progress:
    """How much has arrived, on a terminal. The whole is not known, as the rows are compressed."""

    def __enter__(self) -> _Progress:
        import sys

        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TimeElapsedColumn,
            TransferSpeedColumn,
        )

        self._bar = Progress(
            "saving",
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._bar.start()
        self._task = self._bar.add_task("saving", total=None)
        return self

    def show(self, bytes_written: int) -> None:
        self._bar.update(self._task, completed=bytes_written)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _read_key(key_file: Path | None) -> bytes | None:
    from raftkv.backup.seals import read_key

    return None if key_file is None else read_key(key_file)


def _members(text: str) -> dict[int, Address]:
    from raftkv.config import split_address
    from raftkv.config_sources import parse_members

    option = "--initial-members"
    try:
        members = parse_members(text)
        if not members or min(members) < 1:
            raise ValueError(text)
    except ValueError:
        raise ConfigurationError(
            f"{option} is {text!r}, which is no list of nodes. Fix: write"
            " 1=peer_host:port/client_host:port,2=...",
            key="initial_members",
        ) from None
    for address in members.values():
        split_address(option, address.peer)
        split_address(option, address.client)
    return members


def _described(reader: BackupReader) -> dict[str, Any]:
    header, backup = reader.header, reader.header.backup
    return {
        "cluster": f"{backup.cluster_id:016x}",
        "cluster_name": backup.cluster_name,
        "incarnation": f"{backup.incarnation:016x}",
        "node": backup.node_id,
        "revision": backup.revision,
        "applied_index": backup.applied_index,
        "cluster_version": backup.cluster_version,
        "version": backup.version,
        "saved_ms": header.saved_ms,
        "size_bytes": reader.size_bytes,
        "encrypted": reader.encrypted,
        "format": reader.format,
        "id": header.id.hex(),
    }
