"""`raftkv range`: lists keys and values, page by page where their number is not known before."""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import session
from raftkv.cli.kv_commands import Revision, Stale, argument_bytes, fields_of, read_level
from raftkv.cli.options import Output, options_of
from raftkv.cli.output import print_json, print_table
from raftkv.cli.streams import output_failed
from raftkv.errors import InvalidRequest, printable

if TYPE_CHECKING:
    from raftkv.client.api.paging import Scan
    from raftkv.client.client import Client
    from raftkv.client.model.results import KeyValue

PAGE_KEYS = 1_000
COLUMNS = ("key", "value", "version", "revision")


class SortBy(enum.StrEnum):
    KEY = "key"
    VERSION = "version"
    CREATE_REVISION = "create"
    MOD_REVISION = "mod"
    VALUE = "value"


def range_(
    context: typer.Context,
    start: Annotated[
        str,
        typer.Argument(
            help="The first key, or with --prefix the start of the keys.", show_default="all keys"
        ),
    ] = "",
    end: Annotated[
        str, typer.Argument(help="Up to, without, this key.", show_default="no end")
    ] = "",
    prefix: Annotated[bool, typer.Option("--prefix", help="Every key that starts so.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 0,
    revision: Revision = 0,
    sort: Annotated[SortBy, typer.Option(help="By what to sort.")] = SortBy.KEY,
    descending: Annotated[bool, typer.Option("--descending", help="The greatest first.")] = False,
    keys_only: Annotated[bool, typer.Option("--keys-only", help="Leave the values out.")] = False,
    count_only: Annotated[bool, typer.Option("--count-only", help="Only say how many.")] = False,
    stale: Stale = False,
) -> None:
    """List keys and values: of everything, of a range, or of a prefix.

    All of them are of one revision. Lists in the order of the keys are printed as they are read,
    page by page, and --timeout is that of a page, as it is for --count-only. What has to be sorted
    or made JSON is read to its end first, within --timeout.
    """
    from raftkv.client.model.op import Sort
    from raftkv.client.requests import prefix_range
    from raftkv.wire.ranges import NO_END

    if prefix and end:
        raise InvalidRequest("END and --prefix exclude each other; leave out one of them")
    first, last = (
        prefix_range(argument_bytes(start))
        if prefix
        else (argument_bytes(start) or NO_END, argument_bytes(end) or NO_END)
    )
    output = options_of(context).output

    def scan_of(client: Client) -> Scan:
        return client.scan(
            first,
            last,
            revision=revision,
            keys_only=keys_only,
            page_keys=min(limit or PAGE_KEYS, PAGE_KEYS),
            level=read_level(stale),
        )

    async def count(client: Client) -> None:
        scan = scan_of(client)
        keys = await scan.count()
        if output is Output.JSON:
            print_json({"revision": scan.revision, "count": keys, "more": False})
        else:
            typer.echo(keys)

    async def list_as_it_comes(client: Client) -> None:
        scan = scan_of(client)
        listing = _Listing(keys_only)
        left = limit
        while (page := await scan.next_page()) is not None:
            listing.add(page.kvs[:left] if limit else page.kvs)
            left -= len(page.kvs)
            if (limit and left <= 0) or output_failed():
                break
        listing.end()

    if count_only:
        session.run(context, count)
        return
    if output is Output.TABLE and sort is SortBy.KEY and not descending:
        session.run(context, list_as_it_comes)
        return
    result = session.run(
        context,
        lambda client: client.range(
            first,
            last,
            limit=limit,
            revision=revision,
            sort=Sort[sort.name],
            descending=descending,
            keys_only=keys_only,
            level=read_level(stale),
        ),
    )
    if output is Output.JSON:
        print_json(
            {
                "revision": result.revision,
                "count": result.count,
                "more": result.more,
                "kvs": [fields_of(kv) for kv in result.kvs],
            }
        )
    else:
        listing = _Listing(keys_only)
        listing.add(result.kvs)
        listing.end()


class _Listing:
    """Prints keys as they come, but a table on a terminal only whole: its columns need widths."""

    def __init__(self, keys_only: bool) -> None:
        self._keys_only = keys_only
        self._at_once = keys_only or not sys.stdout.isatty()
        self._rows: list[tuple[str, ...]] = []

    def add(self, kvs: tuple[KeyValue, ...]) -> None:
        rows = [self._row(kv) for kv in kvs]
        if not self._at_once:
            self._rows += rows
        elif rows:
            typer.echo("\n".join("\t".join(row) for row in rows))

    def end(self) -> None:
        if not self._at_once:
            print_table(COLUMNS, self._rows)

    def _row(self, kv: KeyValue) -> tuple[str, ...]:
        if self._keys_only:
            return (printable(kv.key),)
        return printable(kv.key), printable(kv.value), str(kv.version), str(kv.mod_revision)
