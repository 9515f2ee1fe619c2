"""`raftkv put get cas compact`: single keys, and their history."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.output import json_bytes, print_json
from raftkv.cli.streams import read_stdin
from raftkv.errors import InvalidRequest, printable

if TYPE_CHECKING:
    from raftkv.client.model.read_levels import ReadLevel
    from raftkv.client.model.results import KeyValue

Key = Annotated[str, typer.Argument(help="The key.", show_default=False)]
Lease = Annotated[int, typer.Option(min=0, help="Attach the key to this lease.")]
Revision = Annotated[int, typer.Option(min=0, help="Read as of this revision; 0: now.")]
Stale = Annotated[
    bool, typer.Option("--stale", help="Take what one node has: works without a majority.")
]
IdempotencyKey = Annotated[
    str, typer.Option(metavar="NAME", help="Repeated under the same name, it is applied once.")
]


def argument_bytes(argument: str) -> bytes:
    """The argument's bytes as typed, also if they are not UTF-8."""
    return os.fsencode(argument)


def value_bytes(argument: str) -> bytes:
    """A value from the command line; `-` stands for standard input."""
    return read_stdin() if argument == "-" else argument_bytes(argument)


def fields_of(kv: KeyValue) -> dict[str, object]:
    """A key as JSON shows it."""
    return {
        **json_bytes("key", kv.key),
        **json_bytes("value", kv.value),
        "create_revision": kv.create_revision,
        "mod_revision": kv.mod_revision,
        "version": kv.version,
        "lease": kv.lease,
    }


def put(
    context: typer.Context,
    key: Key,
    value: Annotated[str, typer.Argument(help="The value; - reads standard input.")],
    lease: Lease = 0,
    prev: Annotated[bool, typer.Option("--prev", help="Also print what it replaced.")] = False,
    idempotency_key: IdempotencyKey = "",
) -> None:
    """Set a key. Returns when the write is on the disks of a majority."""
    data = value_bytes(value)
    result = client_command.run(
        context,
        lambda client: client.put(
            argument_bytes(key),
            data,
            lease=lease,
            prev_kv=prev,
            idempotency_key=idempotency_key,
        ),
    )
    if options_of(context).output is Output.JSON:
        reply: dict[str, object] = {"revision": result.revision}
        if prev:
            reply["prev"] = fields_of(result.prev_kv) if result.prev_kv else None
        print_json(reply)
        return
    typer.echo(f"OK, revision {result.revision}")
    if result.prev_kv:
        typer.echo(f"was: {printable(result.prev_kv.value)}")


def get(context: typer.Context, key: Key, revision: Revision = 0, stale: Stale = False) -> None:
    """Print the value of a key: byte for byte into a pipe, escaped on a terminal.

    Exits with 3 if the key is not there. Linearizable unless --stale.
    """
    reading = client_command.run(
        context,
        lambda client: client.read(argument_bytes(key), revision=revision, level=read_level(stale)),
    )
    found = reading.kv
    if options_of(context).output is Output.JSON:
        print_json({**fields_of(found), "revision": reading.revision} if found else None)
    elif found is None:
        typer.echo(f"no such key: {printable(argument_bytes(key))}", err=True)
    elif sys.stdout.isatty():
        typer.echo(printable(found.value))
    else:
        sys.stdout.buffer.write(found.value)
        sys.stdout.buffer.flush()
    if found is None:
        raise typer.Exit(ExitCode.NO)


def read_level(stale: bool) -> ReadLevel:
    from raftkv.client.model.read_levels import ReadLevel

    return ReadLevel.STALE if stale else ReadLevel.LINEARIZABLE


def cas(
    context: typer.Context,
    key: Key,
    value: Annotated[str, typer.Argument(help="The new value; - reads standard input.")],
    if_value: Annotated[str | None, typer.Option(help="Only if this is the value.")] = None,
    if_revision: Annotated[
        int | None, typer.Option(min=1, help="Only if this is its mod_revision.")
    ] = None,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Only if there is none.")] = False,
    lease: Lease = 0,
    idempotency_key: IdempotencyKey = "",
) -> None:
    """Compare and swap: set the key if it is as expected. Exits with 3 if it is not."""
    expected: bytes | int | None = None
    if (if_value is not None) + (if_revision is not None) + if_absent != 1:
        raise InvalidRequest("give one of --if-value, --if-revision and --if-absent")
    if if_value is not None:
        expected = argument_bytes(if_value)
    elif if_revision is not None:
        expected = if_revision
    data = value_bytes(value)
    result = client_command.run(
        context,
        lambda client: client.compare_and_swap(
            argument_bytes(key), expected, data, lease=lease, idempotency_key=idempotency_key
        ),
    )
    if options_of(context).output is Output.JSON:
        current = fields_of(result.current) if result.current else None
        print_json({"revision": result.revision, "swapped": result.swapped, "current": current})
    elif result.swapped:
        typer.echo(f"OK, revision {result.revision}")
    elif result.current is None:
        typer.echo("not swapped: the key is not there")
    else:
        typer.echo(
            f"not swapped: the value is {printable(result.current.value)},"
            f" mod_revision {result.current.mod_revision}"
        )
    if not result.swapped:
        raise typer.Exit(ExitCode.NO)


def compact(
    context: typer.Context,
    revision: Annotated[int, typer.Argument(min=1, help="The oldest that can still be read.")],
) -> None:
    """Forget the history of keys before a revision, on every node. Present values stay."""
    current = client_command.run(context, lambda client: client.compact(revision))
    if options_of(context).output is Output.JSON:
        print_json({"compacted_revision": revision, "revision": current})
    else:
        typer.echo(f"OK, compacted to revision {revision} of {current}")
