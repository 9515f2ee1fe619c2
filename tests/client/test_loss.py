"""A loss cancels the block that depends on what is lost, and nothing after the block."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.client.coordination.loss import CancelOnLoss, LossNotifier
from raftkv.errors import LockLost


class Held(LossNotifier):
    def error(self, what: str = "") -> LockLost:
        return LockLost(f"{what} is lost")

    def lose(self) -> None:
        self._report_loss()


async def test_a_loss_within_the_block_becomes_its_error() -> None:
    held = Held(asyncio.get_running_loop())
    held.loop.call_soon(held.lose)
    with pytest.raises(LockLost, match="the entry is lost"), CancelOnLoss(held, "the entry"):
        await asyncio.sleep(1.0)


@pytest.mark.parametrize("disarmed_within", [False, True])
async def test_a_loss_after_the_block_cancels_nothing(disarmed_within: bool) -> None:
    held = Held(asyncio.get_running_loop())
    stopper = CancelOnLoss(held, "the entry")
    with stopper:
        await asyncio.sleep(0)
        if disarmed_within:
            stopper.disarm()
            held.lose()
            await asyncio.sleep(0.01)
    held.lose()
    await asyncio.sleep(0.01)


async def test_a_loss_that_the_task_notices_itself_at_the_end_of_the_block_cancels_nothing() -> (
    None
):
    held = Held(asyncio.get_running_loop())
    with CancelOnLoss(held, "the entry"):
        held.lose()
    await asyncio.sleep(0.01)
