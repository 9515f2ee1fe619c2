"""`raftkv lock` and `raftkv elect`: hold a lock or lead, while a command runs or until a signal."""

from __future__ import annotations

import enum
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from typer.core import TyperCommand

from raftkv.cli import client_command
from raftkv.cli.client_command import Options, Output, options_of
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.kv_commands import argument_bytes
from raftkv.cli.output import json_bytes, print_json
from raftkv.cli.streams import output_failed
from raftkv.errors import InvalidRequest, printable

if TYPE_CHECKING:
    from raftkv.cli.event_loop import Signals
    from raftkv.cli.guarded.command import GuardedCommand
    from raftkv.client.client import Client
    from raftkv.client.coordination.election import LeaderInfo
    from raftkv.client.coordination.lock import Lock

Work: TypeAlias = "Callable[[Client], Awaitable[int]]"
"""What a command does once it is connected; returns its exit code."""

Ttl = Annotated[
    float, typer.Option(min=1.0, help="Seconds until it is free again if this command dies.")
]


class OnLoss(enum.StrEnum):
    """What happens to the command when the lock is lost."""

    TERM = "term"  # SIGTERM, and SIGKILL after the grace
    KILL = "kill"
    IGNORE = "ignore"


class LockCommand(TyperCommand):
    """Distinguishes `lock -- COMMAND`, where the name is missing, from `lock -- -NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            before, (first, *_) = _split(args)
            named, _, _ = self.make_parser(ctx).parse_args(args=before)
            nameless = named.get("name") is None and not named.get("help")
            if nameless and not first.startswith("-"):
                raise InvalidRequest("name missing: raftkv lock NAME -- COMMAND")
        return super().parse_args(ctx, args)


def _split(args: list[str]) -> tuple[list[str], list[str]]:
    """The words before the first `--` and those after it, at least one."""
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
    options = options_of(context)
    if command and command[0] == "--":  # after a name that needed a `--` itself
        command = command[1:]
    if not command:
        work = hold_lock(argument_bytes(name), ttl, options)
    else:
        grace_s = {OnLoss.TERM: grace, OnLoss.KILL: 0.0, OnLoss.IGNORE: None}[on_loss]
        work = run_guarded(argument_bytes(name), ttl, options, command, grace_s)
    raise typer.Exit(client_command.run(context, work))


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
    options = options_of(context)
    if value is None:
        work = observe(argument_bytes(name), options)
    else:
        work = lead(argument_bytes(name), argument_bytes(value), ttl, options)
    raise typer.Exit(client_command.run(context, work))


# ---- what the commands do -------------------------------------------------------------


def hold_lock(name: bytes, ttl_s: float, options: Options) -> Work:
    """Hold the lock until a signal arrives."""
    import asyncio

    async def hold(client: Client, signals: Signals) -> int:
        held = client.lock(name, ttl=ttl_s)
        await held.acquire(timeout=_wait_s(options))
        _show_held(options.output, held.name, held.token)
        over = asyncio.Event()
        held.on_lost(over.set)
        signals.receiver = lambda _: over.set()
        if not output_failed():  # else the holder would be unknown
            await over.wait()
        held.check()
        await held.release()
        return ExitCode.OK

    return _until_signal(hold)


def run_guarded(
    name: bytes, ttl_s: float, options: Options, command: list[str], grace_s: float | None
) -> Work:
    """Hold the lock while the command runs. `grace_s` None: a loss does not end the command."""

    async def hold(client: Client, signals: Signals) -> int:
        held = client.lock(name, ttl=ttl_s)
        await held.acquire(timeout=_wait_s(options))
        child = _start(command, held, grace_s)
        signals.receiver = child.pass_on
        code = await child.wait()
        if not await held.release():
            return ExitCode.LOST
        if code and not child.ended_by_signal:
            typer.echo(f"{command[0]} failed with {code}", err=True)
            return ExitCode.COMMAND_FAILED
        return code

    return _until_signal(hold)


def lead(name: bytes, value: bytes, ttl_s: float, options: Options) -> Work:
    """Lead, once elected, until a signal arrives."""
    import asyncio

    async def hold(client: Client, signals: Signals) -> int:
        election = client.election(name, ttl=ttl_s)
        async with await election.campaign(value, timeout=_wait_s(options)) as leadership:
            _show_led(options.output, leadership.name, value, leadership.token)
            over = asyncio.Event()
            signals.receiver = lambda _: over.set()
            if not output_failed():
                await over.wait()
        return ExitCode.OK

    return _until_signal(hold)


def observe(name: bytes, options: Options) -> Work:
    """Show the leader and its changes, until a signal arrives."""
    import asyncio

    from raftkv.cli.event_loop import ENDING, Signals

    async def look(client: Client) -> int:
        with Signals(ENDING) as signals:
            signals.cancel(asyncio.current_task())
            try:
                async for leader in client.election(name).observe():
                    _show_leader(options.output, leader)
                    if output_failed():
                        break
            except asyncio.CancelledError:
                if signals.received is None:
                    raise
        return ExitCode.OK

    return look


def _until_signal(hold: Callable[[Client, Signals], Awaitable[int]]) -> Work:
    """A signal cancels `hold`, until `hold` sets a receiver of its own."""
    import asyncio

    from raftkv.cli.event_loop import PASSED_ON, Signals

    async def work(client: Client) -> int:
        with Signals(PASSED_ON) as signals:
            signals.cancel(asyncio.current_task())
            try:
                return await hold(client, signals)
            except asyncio.CancelledError:
                if signals.received is None:
                    raise
                return signals.exit_code

    return work


def _wait_s(options: Options) -> float | None:
    """How long to wait for the lock: for ever, unless --timeout was given."""
    return options.timeout_s if options.timeout_given else None


def _start(command: list[str], held: Lock, grace_s: float | None) -> GuardedCommand:
    from raftkv.cli.guarded.command import GuardedCommand

    environment = {
        "RAFTKV_LOCK_NAME": os.fsdecode(held.name),
        "RAFTKV_LOCK_TOKEN": str(held.token),
    }
    child = GuardedCommand(command, environment, grace_s)

    def lost() -> None:
        typer.echo(f"lock {printable(held.name)} is lost", err=True)
        if grace_s is not None:
            child.end(grace_s)

    held.on_lost(lost)
    return child


def _show_held(output: Output, name: bytes, token: int) -> None:
    if output is Output.JSON:
        print_json({**json_bytes("name", name), "token": token})
    else:
        typer.echo(f"{printable(name)} is held under token {token}; Ctrl-C gives it back")


def _show_led(output: Output, name: bytes, value: bytes, token: int) -> None:
    if output is Output.JSON:
        _show_held(output, name, token)
    else:
        typer.echo(
            f"{printable(value)} leads {printable(name)} under token {token}; Ctrl-C resigns"
        )


def _show_leader(output: Output, leader: LeaderInfo | None) -> None:
    if output is Output.JSON:
        value = {} if leader is None else json_bytes("value", leader.value)
        print_json({"token": leader.token if leader else None, **value})
    elif leader is None:
        typer.echo("nobody leads")
    else:
        typer.echo(f"{printable(leader.value)} leads under token {leader.token}")
