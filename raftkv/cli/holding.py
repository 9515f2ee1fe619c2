"""What `raftkv lock` and `raftkv elect` do once they are connected. Each returns an exit code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import typer

from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.guarded_command import GuardedCommand
from raftkv.cli.options import Options, Output
from raftkv.cli.output import json_bytes, print_json
from raftkv.cli.signals import ENDING, PASSED_ON, Signals
from raftkv.cli.streams import output_failed
from raftkv.client.client import Client
from raftkv.client.coordination.election import LeaderInfo
from raftkv.client.coordination.lock import Lock
from raftkv.errors import printable

Work = Callable[[Client], Awaitable[int]]


def lock(name: bytes, ttl_s: float, options: Options) -> Work:
    """Hold the lock until a signal comes."""

    async def hold(client: Client, signals: Signals) -> int:
        held = client.lock(name, ttl=ttl_s)
        await held.acquire(timeout=_wait_s(options))
        _show_held(options.output, held.name, held.token)
        over = asyncio.Event()
        held.on_lost(over.set)
        signals.receiver = lambda _: over.set()
        if not output_failed():  # else nobody learns that it is held
            await over.wait()
        held.check()
        await held.release()
        return ExitCode.OK

    return _until_signal(hold)


def guard(
    name: bytes, ttl_s: float, options: Options, command: list[str], grace_s: float | None
) -> Work:
    """Hold the lock while the command runs. `grace_s` None: a loss does not end it."""

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
    """Lead, once elected, until a signal comes."""

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
    """Show who leads, until a signal comes."""

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
    """A signal cancels `hold`, until that takes signals over."""

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
    """How long to wait for one's turn: for ever, unless the caller said otherwise."""
    return options.timeout_s if options.timeout_given else None


def _start(command: list[str], held: Lock, grace_s: float | None) -> GuardedCommand:
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
