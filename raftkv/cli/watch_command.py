"""`raftkv watch`: prints changes of keys as they happen, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.kv_commands import argument_bytes, fields_of
from raftkv.cli.output import json_bytes, print_json
from raftkv.cli.streams import output_failed
from raftkv.errors import printable

if TYPE_CHECKING:
    from raftkv.client.client import Client
    from raftkv.client.model.results import WatchEvent


def watch(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="The key, or the first of a range.")],
    end: Annotated[
        str | None, typer.Argument(help="Where the range ends, without this key.")
    ] = None,
    prefix: Annotated[bool, typer.Option("--prefix", help="Every key that begins so.")] = False,
    revision: Annotated[
        int, typer.Option(min=0, help="From this revision on; 0: from now on.")
    ] = 0,
    prev: Annotated[bool, typer.Option("--prev", help="Also show what was there before.")] = False,
    puts: Annotated[bool, typer.Option(help="Show puts.")] = True,
    deletes: Annotated[bool, typer.Option(help="Show deletions.")] = True,
    count: Annotated[int, typer.Option(min=0, help="End after so many changes; 0: never.")] = 0,
) -> None:
    """Show every change of a key, a range or a prefix, until Ctrl-C.

    Goes on where it was when a node fails: nothing is left out or shown twice. In a pipe, columns
    are parted by tabs: what, revision, key, value.
    """
    import asyncio

    from raftkv.cli.event_loop import ENDING, Signals

    output = options_of(context).output
    start = argument_bytes(key)
    last = None if end is None else argument_bytes(end)

    async def look(client: Client) -> None:
        changes = client.watch(
            None if prefix else start,
            last,
            prefix=start if prefix else None,
            from_revision=revision,
            prev_kv=prev,
            puts=puts,
            deletes=deletes,
        )
        left = count
        with Signals(ENDING) as signals:
            signals.cancel(asyncio.current_task())
            try:
                async with changes:
                    async for event in changes:
                        _show(output, event)
                        left -= 1
                        if not left or output_failed():
                            return
            except asyncio.CancelledError:
                if signals.received is None:
                    raise

    client_command.run(context, look)


def _show(output: Output, event: WatchEvent) -> None:
    if output is Output.JSON:
        fields: dict[str, object] = {"kind": event.kind.value, "revision": event.revision}
        if event.kv is None:
            fields |= json_bytes("key", event.key)
        else:
            fields |= {**fields_of(event.kv), "created": event.created}
        if event.prev_kv is not None:
            fields["prev"] = fields_of(event.prev_kv)
        print_json(fields)
        return
    columns = [event.kind.value, str(event.revision), printable(event.key)]
    if event.kv is not None:
        columns.append(printable(event.value))
    if event.prev_kv is not None:
        columns.append(f"was {printable(event.prev_kv.value)}")
    typer.echo("\t".join(columns))
