"""`raftkv lock` and `raftkv elect`: hold a name, and do something for as long as it is held."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from raftkv.cli import session
from raftkv.cli.kv_commands import argument_bytes
from raftkv.cli.options import options_of
from raftkv.errors import InvalidRequest

Ttl = Annotated[
    float, typer.Option(min=1.0, help="Seconds until it is free again if this command dies.")
]


class OnLoss(enum.StrEnum):
    """What becomes of the command when the lock is lost."""

    TERM = "term"  # SIGTERM, and SIGKILL after the grace
    KILL = "kill"
    IGNORE = "ignore"


class LockCommand(TyperCommand):
    """Tells `lock -- COMMAND`, where the name was forgotten, from `lock -- -NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            before, (first, *_) = _split(args)
            named, _, _ = self.make_parser(ctx).parse_args(args=before)
            nameless = named.get("name") is None and not named.get("help")
            if nameless and not first.startswith("-"):
                raise InvalidRequest("name missing: raftkv lock NAME -- COMMAND")
        return super().parse_args(ctx, args)


def _split(args: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first `--` and what after it, at least one word."""
    at = args.index("--")
    return args[:at], args[at + 1 :] or [""]


def lock(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to lock.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND", help="Run this while the lock is held."),
    ] = None,
    ttl: Ttl = 10.0,
    on_loss: Annotated[
        OnLoss, typer.Option(help="What becomes of the command if the lock is lost.")
    ] = OnLoss.TERM,
    grace: Annotated[
        float, typer.Option(min=0.0, help="Seconds between SIGTERM and SIGKILL after a loss.")
    ] = 5.0,
) -> None:
    """Hold a lock while a command runs, or until Ctrl-C.

    It waits for its turn; with [bold]--timeout[/bold] no longer than that, and with 0 not
    at all. The command finds RAFTKV_LOCK_NAME and RAFTKV_LOCK_TOKEN in its environment; signals are
    passed on to it.

    A loss ends it as [bold]--on-loss[/bold] says, and so does the death of raftkv itself, be it by
    SIGKILL. What it has sent to others may still be under way: there, check the token.

    Exit codes: 9 not acquired, 10 lost, 11 the command failed, 128 + signal if one ended it.
    """
    from raftkv.cli import holding

    options = options_of(context)
    if command and command[0] == "--":  # after a name that needed a `--` itself
        command = command[1:]
    if not command:
        work = holding.lock(argument_bytes(name), ttl, options)
    else:
        grace_s = {OnLoss.TERM: grace, OnLoss.KILL: 0.0, OnLoss.IGNORE: None}[on_loss]
        work = holding.guard(argument_bytes(name), ttl, options, command, grace_s)
    raise typer.Exit(session.run(context, work))


def elect(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The election.")],
    value: Annotated[
        str | None, typer.Argument(help="Lead, and let others see this; without it, look on.")
    ] = None,
    ttl: Ttl = 10.0,
) -> None:
    """Lead once elected, until Ctrl-C; without a value, show who leads and every change of it.

    It waits for its turn; with [bold]--timeout[/bold] no longer than that, and with 0 not at all.

    Exit codes: 9 not elected, 10 leadership was lost, 128 + signal if one ended the waiting.
    """
    from raftkv.cli import holding

    options = options_of(context)
    if value is None:
        work = holding.observe(argument_bytes(name), options)
    else:
        work = holding.lead(argument_bytes(name), argument_bytes(value), ttl, options)
    raise typer.Exit(session.run(context, work))
