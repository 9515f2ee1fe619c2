"""Who waits for a node's disk or messages goes before its state machine, but never for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from raftkv.node.apply import ApplyScheduler

PATIENCE_S = 0.05


class Rounds:
    """Counts how often another round was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1


@asynccontextmanager
async def write_under_way() -> AsyncIterator[tuple[asyncio.Task[None], Callable[[], None]]]:
    """A write to disk, and what ends it."""
    disk = asyncio.Event()

    async def write() -> None:
        await disk.wait()

    task = asyncio.create_task(write())
    try:
        yield task, disk.set
    finally:
        disk.set()
        await task


def test_without_a_write_or_messages_an_apply_is_due_at_once() -> None:
    rounds = Rounds()
    turn = ApplyScheduler(rounds, PATIENCE_S)
    assert turn.is_due(None, 1.0, sends=False)
    assert rounds.asked == 0


def test_messages_delay_an_apply_once() -> None:
    rounds = Rounds()
    turn = ApplyScheduler(rounds, PATIENCE_S)
    assert not turn.is_due(None, 1.0, sends=True)
    assert rounds.asked == 1, "without another round the run would never be applied"
    assert turn.is_due(None, 1.0, sends=True), "a stream of messages must not starve apply"
    assert not turn.is_due(None, 1.0, sends=True), "the next turn gives way again"


async def test_an_acknowledgement_leaves_before_apply() -> None:
    rounds = Rounds()
    turn = ApplyScheduler(rounds, PATIENCE_S)
    async with write_under_way() as (write, finish):
        assert not turn.is_due(write, 1.0, sends=False)
        assert not turn.is_due(write, 1.01, sends=True)
        assert rounds.asked == 0, "the end of the write brings a round"
        finish()
        await write
        assert not turn.is_due(write, 1.02, sends=True), "now the acknowledgement leaves"
        assert turn.is_due(write, 1.02, sends=False)


async def test_a_later_write_is_not_waited_for() -> None:
    turn = ApplyScheduler(Rounds(), PATIENCE_S)
    async with write_under_way() as (first, finish), write_under_way() as (second, _):
        assert not turn.is_due(first, 1.0, sends=False)
        finish()
        await first
        assert turn.is_due(second, 1.01, sends=False), "writes without a pause must not starve it"
        assert not turn.is_due(second, 1.01, sends=False), "the next turn waits for it"


async def test_a_disk_that_hangs_does_not_stop_apply() -> None:
    turn = ApplyScheduler(Rounds(), PATIENCE_S)
    async with write_under_way() as (write, _):
        assert not turn.is_due(write, 1.0, sends=False)
        assert not turn.is_due(write, 1.0 + PATIENCE_S * 0.9, sends=False)
        assert turn.is_due(write, 1.0 + PATIENCE_S, sends=False)
