"""What every client command shares: the global options, and running it with a connected client."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from raftkv.client.client import Client


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


def options_of(context: typer.Context) -> Options:
    found = context.find_object(Options)
    return found if found is not None else Options()


GLOBAL_OPTIONS = frozenset({"--endpoints", "-e", "--timeout", "--output", "-o"})


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
    from raftkv.client.client import connect

    options = options_of(context)

    async def connected() -> T:
        async with connect(options.endpoints, timeout=options.timeout_s) as client:
            return await work(client)

    return event_loop.run(connected())
