"""`raftkv lock` and `raftkv elect`: hold a name, and do something for as long as it is held."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import session
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.guarded_command import GuardedCommand, OnLoss
from raftkv.cli.kv_commands import argument_bytes
from raftkv.cli.options import Output, options_of
from raftkv.cli.output import json_bytes, print_json, printable
from raftkv.cli.signals import ENDING, PASSED_ON, Signals

if TYPE_CHECKING:
    from raftkv.client.client import Client
    from raftkv.client.elections import LeaderInfo
    from raftkv.client.locks import Lock

Ttl = Annotated[
    float, typer.Option(min=1.0, help="Seconds until it is free again if this command dies.")
]


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

    It waits for its turn; with [bold]--timeout[/bold] no longer than that. The command finds
    RAFTKV_LOCK_NAME and RAFTKV_LOCK_TOKEN in its environment; signals are passed on to it.

    Exit codes: 9 not acquired, 10 lost, 11 the command failed, 128 + signal if one ended it.
    """
    options = options_of(context)
    wait_s = options.timeout_s if options.timeout_given else None

    async def hold(client: Client) -> int:
        held = client.lock(argument_bytes(name), ttl=ttl)
        with Signals(PASSED_ON) as signals:
            signals.cancel(asyncio.current_task())
            try:
                await held.acquire(timeout=wait_s)
                if command:
                    return await _guarded(held, command, on_loss, grace, signals)
                _show_held(options.output, held.name, held.token)
                return await _until_told(held, signals)
            except asyncio.CancelledError:
                if signals.received is None:
                    raise
                return signals.exit_code

    raise typer.Exit(session.run(context, hold))


async def _guarded(
    held: Lock, command: list[str], on_loss: OnLoss, grace_s: float, signals: Signals
) -> int:
    environment = {
        "RAFTKV_LOCK_NAME": os.fsdecode(held.name),
        "RAFTKV_LOCK_TOKEN": str(held.token),
    }
    child = GuardedCommand(command, environment)
    signals.receiver = child.pass_on

    def lost() -> None:
        typer.echo(f"lock {printable(held.name)} is lost", err=True)
        child.end(on_loss, grace_s)

    held.on_lost(lost)
    code = await child.wait()
    if not await held.release():
        return ExitCode.LOST
    if code and not child.obeyed:
        typer.echo(f"{command[0]} failed with {code}", err=True)
        return ExitCode.COMMAND_FAILED
    return code


async def _until_told(held: Lock, signals: Signals) -> int:
    """Hold it until a signal comes. Raises `LockLost`."""
    over = asyncio.Event()
    held.on_lost(over.set)
    _ending(signals, over)
    await over.wait()
    held.check()
    await held.release()
    return ExitCode.OK


def _ending(signals: Signals, over: asyncio.Event) -> None:
    """Let a signal that should end us set the event."""

    def receive(number: signal.Signals) -> None:
        if number in ENDING:
            over.set()

    signals.receiver = receive


def elect(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The election.")],
    value: Annotated[
        str | None, typer.Argument(help="Lead, and let others see this; without it, look on.")
    ] = None,
    ttl: Ttl = 10.0,
) -> None:
    """Lead once elected, until Ctrl-C; without a value, show who leads and every change of it.

    It waits for its turn; with [bold]--timeout[/bold] no longer than that.

    Exit codes: 9 not elected, 10 leadership was lost, 128 + signal if one ended the waiting.
    """
    options = options_of(context)
    wait_s = options.timeout_s if options.timeout_given else None

    async def lead(client: Client) -> int:
        election = client.election(argument_bytes(name), ttl=ttl)
        with Signals(ENDING) as signals:
            signals.cancel(asyncio.current_task())
            try:
                if value is None:
                    async for leader in election.observe():
                        _show_leader(options.output, leader)
                    return ExitCode.OK
                campaign = election.campaign(argument_bytes(value), timeout=wait_s)
                async with await campaign as leadership:
                    _show_held(options.output, leadership.name, leadership.token)
                    over = asyncio.Event()
                    _ending(signals, over)
                    await over.wait()
                return ExitCode.OK
            except asyncio.CancelledError:
                if signals.received is None:
                    raise
                return ExitCode.OK if value is None else signals.exit_code

    raise typer.Exit(session.run(context, lead))


def _show_held(output: Output, name: bytes, token: int) -> None:
    if output is Output.JSON:
        print_json({**json_bytes("name", name), "token": token})
    else:
        typer.echo(f"{printable(name)} is held under token {token}; Ctrl-C gives it back")


def _show_leader(output: Output, leader: LeaderInfo | None) -> None:
    if output is Output.JSON:
        value = {} if leader is None else json_bytes("value", leader.value)
        print_json({"token": leader.token if leader else None, **value})
    elif leader is None:
        typer.echo("nobody leads")
    else:
        typer.echo(f"{printable(leader.value)} leads under token {leader.token}")
