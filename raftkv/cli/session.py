"""One client for one command: connected as the global options say, closed at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from raftkv.cli.options import options_of

if TYPE_CHECKING:
    from raftkv.client.client import Client

T = TypeVar("T")


def run(context: typer.Context, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with a connected client. Raises what the client raises."""
    from raftkv.cli import event_loop
    from raftkv.client.client import connect

    options = options_of(context)

    async def connected() -> T:
        async with connect(options.endpoints, timeout=options.timeout_s) as client:
            return await work(client)

    return event_loop.run(connected())
