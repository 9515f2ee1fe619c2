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
    from raftkv.client.tls import Tls


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
    user: str = ""
    password_file: str = ""
    token_file: str = ""

    @property
    def tls(self) -> Tls | None:
        """The files for TLS; None if none is given, so that the endpoints decide."""
        from raftkv.client.tls import Tls

        if not (self.cacert or self.cert or self.key):
            return None
        return Tls(self.cacert or None, self.cert or None, self.key or None)

    def connect(self, timeout_s: float | None = None) -> Connecting:
        """Connect to the cluster; `timeout_s` None: that of --timeout."""
        from raftkv.cli.passwords import ask_password
        from raftkv.client.client import connect
        from raftkv.client.credentials import read_secret_file

        seconds = self.timeout_s if timeout_s is None else timeout_s
        password = token = None
        if self.token_file:
            token = read_secret_file(self.token_file, "--token-file")
        if self.user and self.password_file:
            password = read_secret_file(self.password_file, "--password-file")
        elif self.user and not token:
            password = ask_password(self.user)
        return connect(
            self.endpoints,
            timeout=seconds,
            tls=self.tls,
            user=self.user,
            password=password,
            token=token,
        )


def options_of(context: typer.Context) -> Options:
    found = context.find_object(Options)
    return found if found is not None else Options()


GLOBAL_OPTIONS = frozenset(
    {
        *("--endpoints", "-e", "--timeout", "--output", "-o", "--cacert", "--cert", "--key"),
        *("--user", "--password-file", "--token-file"),
    }
)


def hoist(arguments: Sequence[str], own: frozenset[str] = frozenset()) -> list[str]:
    """Move the global options in front of the command: they may be anywhere on the line.

    `own`: options that the command itself has, which stay where they are.
    """
    hoisted = GLOBAL_OPTIONS - own
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            return [*front, *rest, argument, *remaining]
        name, equals, _ = argument.partition("=")
        if argument in hoisted:
            front += [argument, *(value for value in (next(remaining, None),) if value is not None)]
        elif equals and name in hoisted:
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


def own_options(command: Any, arguments: Sequence[str]) -> frozenset[str]:
    """The options of the command that the arguments name, such as `token create`."""
    remaining = iter(arguments)
    for argument in remaining:
        if argument in GLOBAL_OPTIONS:
            next(remaining, None)  # its value is no command
        elif argument in getattr(command, "commands", {}):
            command = command.commands[argument]
    if hasattr(command, "commands"):
        return frozenset()
    return frozenset(option for parameter in command.params for option in parameter.opts)


class GlobalOptionsGroup(TyperGroup):
    """The top-level group: accepts its options anywhere on the line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, hoist(args, own_options(self, args)))


T = TypeVar("T")


def run(context: typer.Context, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with a connected client. Raises what the client raises."""
    from raftkv.cli import event_loop

    options = options_of(context)

    async def connected() -> T:
        async with options.connect() as client:
            return await work(client)

    return event_loop.run(connected())
