"""What every client command shares: the global options, and running it with a connected client."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from raftkv.client.client import Client, Connecting
    from raftkv.client.connection.tls import Tls


DEFAULT_ENDPOINTS = "127.0.0.1:7411,127.0.0.1:7412,127.0.0.1:7413"


class Output(enum.StrEnum):
    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Options:
    """The global options as given."""

    endpoints: str = DEFAULT_ENDPOINTS
    timeout_s: float = 5.0
    output: Output = Output.TABLE
    timeout_given: bool = False  # not the default
    cacert: str = ""
    cert: str = ""
    key: str = ""

    @property
    def tls(self) -> Tls | None:
        """The files for TLS; None if none is given, so that the endpoints decide."""
        from raftkv.client.connection.tls import Tls

        if not (self.cacert or self.cert or self.key):
            return None
        return Tls(self.cacert or None, self.cert or None, self.key or None)

    def connect(self, timeout_s: float | None = None) -> Connecting:
        """Connect to the cluster; `timeout_s` None: that of --timeout."""
        from raftkv.client.client import connect

        seconds = self.timeout_s if timeout_s is None else timeout_s
        return connect(self.endpoints, timeout=seconds, tls=self.tls)


def options_of(context: typer.Context) -> Options:
    found = context.find_object(Options)
    return found if found is not None else Options()


GLOBAL_OPTIONS = frozenset(
    {"--endpoints", "-e", "--timeout", "--output", "-o", "--cacert", "--cert", "--key"}
)


def hoist(arguments: Sequence[str]) -> list[str]:
    """Move the global options in front of the command: they may be anywhere on the line."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            return [*front, *rest, argument, *remaining]
        name, equals, _ = argument.partition("=")
        if argument in GLOBAL_OPTIONS:
            front += [argument, *(value for value in (next(remaining, None),) if value is not None)]
        elif equals and name in GLOBAL_OPTIONS:
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


class GlobalOptionsGroup(TyperGroup):
    """The top-level group: accepts its options anywhere on the line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, hoist(args))


T = TypeVar("T")


def run(context: typer.Context, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with a connected client. Raises what the client raises."""
    from raftkv.cli import event_loop

    options = options_of(context)

    async def connected() -> T:
        async with options.connect() as client:
            return await work(client)

    return event_loop.run(connected())
