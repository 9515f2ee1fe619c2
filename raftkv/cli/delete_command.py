"""`raftkv del`: deletes keys in one revision, or in steps if they are too many for one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.kv_commands import IdempotencyKey, argument_bytes
from raftkv.cli.output import print_json
from raftkv.errors import InvalidRequest, TooManyKeys

if TYPE_CHECKING:
    from raftkv.client.api.paging import PagedDeletion
    from raftkv.client.client import Client
    from raftkv.client.model.results import DeleteResult


def delete(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="The key, or with --prefix the start of the keys.")],
    end: Annotated[str, typer.Argument(help="Delete from KEY up to, without, this key.")] = "",
    prefix: Annotated[bool, typer.Option("--prefix", help="Every key that starts so.")] = False,
    atomic: Annotated[
        bool, typer.Option("--atomic", help="All of them in one revision, or none.")
    ] = False,
    idempotency_key: IdempotencyKey = "",
) -> None:
    """Delete keys and print how many there were. Exits with 3 if there were none.

    If they are more than one revision may delete, they are deleted in steps, and others see some of
    them gone and others still there. To refuse that, say --atomic; an idempotency key refuses it,
    too, for it names one revision.
    """
    if prefix and end:
        raise InvalidRequest("END and --prefix exclude each other; leave out one of them")
    output = options_of(context).output
    start, stop = argument_bytes(key), argument_bytes(end)

    async def delete_them(client: Client) -> int:
        deletion = (
            _prefix_deletion(client, start) if prefix else _range_deletion(client, start, stop)
        )
        try:
            result = await deletion.at_once(idempotency_key)
        except TooManyKeys as error:
            if atomic or idempotency_key:
                raise _refused(error, "--atomic" if atomic else "--idempotency-key") from None
        else:
            _show(output, result)
            return ExitCode.OK if result.deleted else ExitCode.NO
        from raftkv.cli.stepwise_deletion import delete_in_steps

        return await delete_in_steps(deletion.in_pages(), deletion.counted, output)

    code = client_command.run(context, delete_them)
    if code:
        raise typer.Exit(code)


class _Deletion(NamedTuple):
    """The operations on the keys to delete: at once, in pages, and counting them."""

    at_once: Callable[[str], Awaitable[DeleteResult]]
    in_pages: Callable[[], PagedDeletion]
    counted: Callable[[], Awaitable[int]]


def _prefix_deletion(client: Client, prefix: bytes) -> _Deletion:
    return _Deletion(
        lambda name: client.delete_prefix(prefix, idempotency_key=name),
        lambda: client.delete_prefix_in_pages(prefix),
        lambda: client.scan_prefix(prefix).count(),
    )


def _range_deletion(client: Client, start: bytes, end: bytes) -> _Deletion:
    """Without an end, the single key."""
    return _Deletion(
        lambda name: (
            client.delete_range(start, end, idempotency_key=name)
            if end
            else client.delete(start, idempotency_key=name)
        ),
        lambda: client.delete_range_in_pages(start, end),
        lambda: client.scan(start, end).count(),
    )


def _refused(error: TooManyKeys, option: str) -> TooManyKeys:
    error_shown = TooManyKeys(
        "there are more keys than one revision may delete"
        f" ({error.facts.get('keys_max', 'unknown')}), or they are too large together; nothing was"
        f" deleted; without {option} they are deleted in steps, each a revision of its own"
    )
    error_shown.facts = error.facts
    return error_shown


def _show(output: Output, result: DeleteResult) -> None:
    if output is Output.JSON:
        print_json({"revision": result.revision, "deleted": result.deleted})
    else:
        typer.echo(f"{result.deleted} deleted, revision {result.revision}")
