"""`raftkv del` over several revisions: its progress, and what was deleted."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import typer

from raftkv.cli.client_command import Output
from raftkv.cli.event_loop import ENDING, Signals
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.output import print_json
from raftkv.client.api.paging import PagedDeletion
from raftkv.errors import RaftkvError

NOTICE = (
    "too many keys for one revision: deleting them in steps, each a revision of its own;"
    " Ctrl-C ends it after a step (--atomic: all keys or none)"
)

Count: TypeAlias = Callable[[], Awaitable[int]]
"""Counts the keys to delete."""


async def delete_in_steps(deletion: PagedDeletion, count: Count, output: Output) -> int:
    """Delete until all keys are gone, a signal arrives, or an error; always report the deleted
    keys.

    Returns the exit code. A first signal lets the current step end, so that its outcome is known; a
    second one does not wait for it.
    """
    _notice(output, NOTICE)
    with Signals(ENDING) as signals:
        task = asyncio.current_task()
        signals.receiver = lambda _: signals.cancel(task)
        try:
            async with _progress(count, output) as show:
                while signals.received is None and await anext(deletion, None) is not None:
                    show(deletion.deleted)
        except asyncio.CancelledError:
            if signals.received is None:
                raise
        except RaftkvError:
            _show(output, deletion)
            raise
        _show(output, deletion)
        if deletion.complete or signals.received is None:
            return ExitCode.OK
        _notice(output, f"ended by {signals.received.name}; run it again to delete the rest")
        return signals.exit_code


def on_terminal() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr.isatty()


@asynccontextmanager
async def _progress(count: Count, output: Output) -> AsyncIterator[Callable[[int], None]]:
    """A progress bar on a terminal. Its length is an estimate: other clients may write
    meanwhile.
    """
    if output is Output.JSON or not on_terminal():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    keys = await count()
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=keys)
        yield lambda deleted: bar.update(task, completed=deleted)


def _show(output: Output, deletion: PagedDeletion) -> None:
    if output is Output.JSON:
        print_json(
            {
                "revision": deletion.last_revision,
                "deleted": deletion.deleted,
                "first_revision": deletion.first_revision,
                "pages": deletion.pages,
                "complete": deletion.complete,
                "outcome_unknown": deletion.outcome_unknown,
            }
        )
        return
    steps = "1 step" if deletion.pages == 1 else f"{deletion.pages} steps"
    revisions = f", revisions {deletion.first_revision} to {deletion.last_revision}"
    typer.echo(f"{deletion.deleted} deleted in {steps}{revisions if deletion.pages else ''}")
    if not deletion.complete:
        unknown = ": no answer came to the last step, and its keys may be gone, too"
        typer.echo(f"not complete{unknown if deletion.outcome_unknown else ''}")


def _notice(output: Output, notice: str) -> None:
    """Print a notice to standard error."""
    if output is Output.JSON:
        print_json({"notice": notice}, err=True)
    else:
        typer.echo(notice, err=True)
