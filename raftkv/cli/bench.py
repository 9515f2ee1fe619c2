"""`raftkv bench`: a small load generator."""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli.client_command import Options, options_of
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.output import print_values

if TYPE_CHECKING:
    from raftkv.client.client import Client

PREFIX = "raftkv-bench/"


class BenchOperation(enum.StrEnum):
    PUT = "put"
    GET = "get"


@dataclass(slots=True)
class Tally:
    """Latencies in seconds and counts of errors, of all tasks."""

    latencies_s: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)


def bench(
    context: typer.Context,
    writers: Annotated[
        int, typer.Option("--writers", "-w", min=1, max=100_000, help="Tasks at a time.")
    ] = 100,
    seconds: Annotated[float, typer.Option("--seconds", "-s", min=0.1)] = 5.0,
    value_bytes: Annotated[int, typer.Option(min=0, max=1 << 20, help="Size of a value.")] = 256,
    keys: Annotated[int, typer.Option(min=1, help="Different keys.")] = 10_000,
    operation: Annotated[
        BenchOperation, typer.Option(help="put, or linearizable get.")
    ] = BenchOperation.PUT,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the keys there.")] = False,
) -> None:
    """Put (or get) keys as fast as the cluster takes it; print throughput and latencies.

    Its keys start with raftkv-bench/ and are deleted at the end, also after Ctrl-C, which ends it
    early; a second one ends it at once. Exits with 1 if any call failed.
    """
    from raftkv.cli import event_loop

    options = options_of(context)
    load = _Load(writers, seconds, value_bytes, keys, operation, keep)
    took_s, tally, ended_by = event_loop.run(_run(options, load))
    report: dict[str, object] = {
        "operation": operation.value,
        "writers": writers,
        "value_bytes": value_bytes,
        "seconds": round(took_s, 2),
        "operations": len(tally.latencies_s),
        "per_second": round(len(tally.latencies_s) / took_s),
        **percentiles_ms(tally.latencies_s),
        "errors": sum(tally.errors.values()),
    }
    report.update({f"errors_{reason}": count for reason, count in tally.errors.items()})
    print_values(options.output, report)
    if ended_by:
        raise typer.Exit(128 + ended_by)
    if tally.errors or not tally.latencies_s:
        raise typer.Exit(ExitCode.ERROR)


def percentiles_ms(latencies_s: list[float]) -> dict[str, object]:
    """Latencies at some ranks, in ms."""
    ordered = sorted(latencies_s)
    ranks = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    return {
        name: round(ordered[min(len(ordered) - 1, int(rank * len(ordered)))] * 1000, 3)
        for name, rank in ranks.items()
        if ordered
    }


@dataclass(frozen=True, slots=True)
class _Load:
    writers: int
    seconds: float
    value_bytes: int
    keys: int
    operation: BenchOperation
    keep: bool


async def _run(options: Options, load: _Load) -> tuple[float, Tally, signal.Signals | None]:
    """The duration, the results, and the signal that ended the run early, if any."""
    import asyncio

    from raftkv.cli.event_loop import ENDING, Signals

    tally = Tally()
    async with options.connect() as client:
        with Signals(ENDING) as signals:
            task = asyncio.current_task()
            signals.receiver = lambda _: signals.cancel(task)
            try:
                took_s = await _measure(client, load, lambda: signals.received is not None, tally)
            except asyncio.CancelledError:
                if signals.received is None:
                    raise
                raise typer.Exit(signals.exit_code) from None
    return took_s, tally, signals.received


async def _measure(
    client: Client, load: _Load, is_interrupted: Callable[[], bool], tally: Tally
) -> float:
    """Run the load and fill `tally`; returns the duration in seconds."""
    import asyncio
    from time import perf_counter as clock  # the loop's own clock counts whole milliseconds

    await client.put(f"{PREFIX}0", b"")  # opens the session, outside the measurement
    if load.operation is BenchOperation.GET:
        await _fill(client, load)
    started = clock()
    end = started + load.seconds

    def is_over(now: float) -> bool:
        return now >= end or is_interrupted()

    await asyncio.gather(
        *(_work(client, load, number, is_over, tally) for number in range(load.writers))
    )
    took_s = clock() - started
    if not load.keep:
        await client.delete_prefix(PREFIX, timeout=30.0)
    return took_s


async def _fill(client: Client, load: _Load) -> None:
    import asyncio

    value = os.urandom(load.value_bytes)
    for first in range(0, load.keys, 1_000):
        numbers = range(first, min(first + 1_000, load.keys))
        await asyncio.gather(*(client.put(f"{PREFIX}{n}", value) for n in numbers))


async def _work(
    client: Client, load: _Load, number: int, is_over: Callable[[float], bool], tally: Tally
) -> None:
    from time import perf_counter as clock

    from raftkv.errors import RaftkvError

    value = os.urandom(load.value_bytes)
    key_number = number
    while not is_over(started := clock()):
        key = f"{PREFIX}{key_number % load.keys}"
        key_number += load.writers
        try:
            if load.operation is BenchOperation.PUT:
                await client.put(key, value)
            else:
                await client.get(key)
        except RaftkvError as error:
            tally.errors[error.reason] = tally.errors.get(error.reason, 0) + 1
        else:
            tally.latencies_s.append(clock() - started)
