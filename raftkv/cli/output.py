"""Output formats: tables for people, JSON for programs, and printable bytes."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from raftkv.cli.client_command import Output
from raftkv.errors import RaftkvError

if TYPE_CHECKING:
    from rich.table import Table


def json_bytes(name: str, data: bytes) -> dict[str, str]:
    """A field `name` with the text; for bytes that are not UTF-8 a field `name_base64`."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def size(count: int) -> str:
    """A size in bytes with a unit, in about three digits."""
    amount = float(count)
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1000:
            break
        amount /= 1024
        unit = larger
    digits = 1 if unit != "B" and amount < 100 else 0
    return f"{amount:.{digits}f} {unit}"


def duration(milliseconds: float) -> str:
    """A duration with a unit."""
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def print_json(value: object, *, err: bool = False) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False), err=err)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, heading_in_pipe: bool = False
) -> None:
    """A table on a terminal; in a pipe, columns separated by tabs, for `cut`."""
    if not sys.stdout.isatty():
        for row in [columns, *rows] if heading_in_pipe else rows:
            typer.echo("\t".join(row))
        return
    from rich.console import Console

    Console().print(table(columns, rows))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, dense: bool = False) -> Table:
    """The rows as a rich table; text is not parsed as markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0 if dense else 1, 0, 0))
    for column in columns:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def print_values(output: Output, fields: dict[str, object]) -> None:
    """One result: its fields as JSON, or as `name value` lines."""
    if output is Output.JSON:
        print_json(fields)
    else:
        width = max(map(len, fields), default=0)
        for name, value in fields.items():
            typer.echo(f"{name:<{width}}  {value}")


def fail(error: RaftkvError, output: Output) -> None:
    """Print the error to standard error."""
    if output is Output.JSON:
        described = {
            "reason": error.reason,
            "message": error.message,
            "outcome": error.outcome.name,
            "facts": error.facts,
        }
        typer.echo(json.dumps({"error": described}), err=True)
    else:
        typer.echo(f"error: {error.message}", err=True)
