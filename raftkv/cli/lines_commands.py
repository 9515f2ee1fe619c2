"""`raftkv export` and `raftkv import`: keys and values as lines of JSON."""

from __future__ import annotations

import base64
import enum
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.output import json_bytes, print_json
from raftkv.cli.streams import output_failed
from raftkv.errors import ConfigurationError, InvalidRequest, printable

if TYPE_CHECKING:
    from raftkv.client.client import Client
    from raftkv.client.model.results import KeyValue

LINES_AT_ONCE = 256


class Existing(enum.StrEnum):
    KEEP = "keep"
    CAS = "cas"
    REPLACE = "replace"


class Action(enum.StrEnum):
    """What is done with a line."""

    CREATE = "create"
    CHANGE = "change"
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Line:
    """A key and its value. `mod_revision` is that of the export, 0 if the line has none."""

    key: bytes
    value: bytes
    mod_revision: int = 0


def export(
    context: typer.Context,
    prefix: Annotated[
        str, typer.Argument(help="Only keys that start so.", show_default="all keys")
    ] = "",
) -> None:
    """Print keys and values as lines of JSON, all of them as of one revision.

    What is not UTF-8 is in base64, as key_base64 or value_base64. Keys of leases are left out:
    without their lease they would stay for ever.
    """
    exported = client_command.run(context, lambda client: _export(client, prefix.encode()))
    typer.echo(
        f"{exported['keys']} keys of revision {exported['revision']},"
        f" {exported['keys_of_leases']} keys of leases left out",
        err=True,
    )


async def _export(client: Client, prefix: bytes) -> Counter[str]:
    from raftkv.wire.ranges import NO_END, prefix_end

    counted: Counter[str] = Counter()
    scan = client.scan(prefix or NO_END, prefix_end(prefix) or NO_END)
    while (page := await scan.next_page()) is not None and not output_failed():
        kept = [kv for kv in page.kvs if not kv.lease]
        if kept:
            typer.echo("\n".join(json.dumps(_fields_of(kv), ensure_ascii=False) for kv in kept))
        counted["keys"] += len(kept)
        counted["keys_of_leases"] += len(page.kvs) - len(kept)
    counted["revision"] = scan.revision
    return counted


def _fields_of(kv: KeyValue) -> dict[str, Any]:
    return {
        **json_bytes("key", kv.key),
        **json_bytes("value", kv.value),
        "mod_revision": kv.mod_revision,
        "version": kv.version,
    }


def import_(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(help="Lines as `raftkv export` prints them.", show_default="standard input"),
    ] = None,
    existing: Annotated[
        Existing,
        typer.Option(
            help="What becomes of a key that has another value. keep: it stays. cas: it is replaced"
            " if its mod_revision is still that of the line. replace: it is replaced."
        ),
    ] = Existing.KEEP,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, key by key.")
    ] = False,
) -> None:
    """Write keys and values from lines of JSON. By default it only creates keys.

    Each key is written on its own, and only if it is still as it was when it was read: what
    another client writes meanwhile is never lost. It can be run again after a failure. Exits with 3
    if a key was left as it is (conflict).
    """
    if file is None:
        opened: Any = nullcontext(sys.stdin)
    else:
        try:
            opened = file.open(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"{file} can't be read: {error.strerror}. Fix: name a file that `raftkv export` has"
                " printed."
            ) from error
    with opened as source:
        done = client_command.run(
            context, lambda client: _import(client, source, existing, dry_run)
        )
    counts = {action.value: done[action] for action in Action}
    if options_of(context).output is Output.JSON:
        print_json(counts)
    else:
        typer.echo(", ".join(f"{count} {name}" for name, count in counts.items()))
    if done[Action.CONFLICT]:
        raise typer.Exit(ExitCode.NO)


async def _import(
    client: Client, source: IO[str], existing: Existing, dry_run: bool
) -> Counter[Action]:
    import asyncio

    done: Counter[Action] = Counter()
    lines = _lines_of(source)
    # A thread, because standard input may take long, and leases are renewed meanwhile.
    while batch := await asyncio.to_thread(lambda: list(islice(lines, LINES_AT_ONCE))):
        actions = await asyncio.gather(
            *(_import_line(client, line, existing, dry_run) for line in batch)
        )
        for line, action in zip(batch, actions, strict=True):
            done[action] += 1
            if dry_run and action is not Action.UNCHANGED:
                typer.echo(f"{action}\t{printable(line.key)}", err=True)
    return done


async def _import_line(client: Client, line: Line, existing: Existing, dry_run: bool) -> Action:
    current = await client.get(line.key)
    action = _action(line, current, existing)
    if dry_run or action in (Action.UNCHANGED, Action.CONFLICT):
        return action
    seen = None if current is None else current.mod_revision
    swap = await client.compare_and_swap(line.key, seen, line.value)
    return action if swap.swapped else Action.CONFLICT


def _action(line: Line, current: KeyValue | None, existing: Existing) -> Action:
    if current is None:
        return Action.CREATE
    if current.value == line.value:
        return Action.UNCHANGED
    is_as_exported = bool(line.mod_revision) and current.mod_revision == line.mod_revision
    if existing is Existing.REPLACE or (existing is Existing.CAS and is_as_exported):
        return Action.CHANGE
    return Action.CONFLICT


def _lines_of(source: IO[str]) -> Iterator[Line]:
    """Raises `InvalidRequest` with the number of a line that is none."""
    for number, text in enumerate(source, 1):
        if not text.strip():
            continue
        try:
            fields = json.loads(text)
            revision = fields.get("mod_revision", 0)
            if type(revision) is not int:
                raise TypeError("mod_revision is no number")
            line = Line(_bytes_of(fields, "key"), _bytes_of(fields, "value"), revision)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidRequest(
                f"line {number} is no key and value ({error}); all lines before it were imported;"
                " correct it, and import the file again"
            ) from None
        yield line


def _bytes_of(fields: dict[str, Any], name: str) -> bytes:
    if f"{name}_base64" in fields:
        return base64.b64decode(fields[f"{name}_base64"], validate=True)
    text = fields[name]
    if not isinstance(text, str):
        raise TypeError(f"{name} is no text")
    return text.encode()
