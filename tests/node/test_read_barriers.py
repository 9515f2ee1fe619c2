import asyncio

import pytest

from raftkv.errors import DeadlineExceeded, NoLeader
from raftkv.node.read_barriers import ReadBarriers


async def test_barriers_of_one_turn_share_a_context_and_open_when_its_index_is_applied() -> None:
    loop = asyncio.get_running_loop()
    barriers, asked = ReadBarriers(0), []
    first, second = loop.create_future(), loop.create_future()
    barriers.add(first, 10.0)
    barriers.add(second, 10.0)
    barriers.ask(lambda context: asked.append(context) or True, 1.0)
    assert asked == [1]
    barriers.confirm(1, read_index=5)
    barriers.open(4)
    assert not first.done()
    barriers.open(5)
    assert first.done()
    assert second.done()


async def test_an_unanswered_context_is_asked_again_and_fails_when_late() -> None:
    future = asyncio.get_running_loop().create_future()
    barriers, asked = ReadBarriers(0), []

    def ask(context: int) -> bool:
        asked.append(context)
        return True

    barriers.add(future, 10.0)
    barriers.ask(ask, 1.0)
    for _ in range(5):
        barriers.tick(1.0, ask, again_ticks=5, leaderless_ticks_max=40)
    assert asked == [1, 1]
    barriers.tick(10.0, ask, again_ticks=5, leaderless_ticks_max=40)
    with pytest.raises(DeadlineExceeded):
        await future


async def test_a_late_read_fails_beside_one_that_was_given_up_and_one_with_time_left() -> None:
    loop = asyncio.get_running_loop()
    given_up, late, in_time = (loop.create_future() for _ in range(3))
    barriers = ReadBarriers(0)
    for future, deadline in ((given_up, 10.0), (late, 10.0), (in_time, 20.0)):
        barriers.add(future, deadline)
    barriers.ask(lambda _: True, 1.0)
    given_up.cancel()
    barriers.tick(10.0, lambda _: True, again_ticks=5, leaderless_ticks_max=40)
    with pytest.raises(DeadlineExceeded):
        await late
    barriers.confirm(1, read_index=5)
    barriers.open(5)
    assert in_time.done()


async def test_without_a_leader_a_read_fails_before_its_deadline() -> None:
    future = asyncio.get_running_loop().create_future()
    barriers = ReadBarriers(0)
    barriers.add(future, 1e9)
    barriers.ask(lambda _: False, 1.0)
    for _ in range(41):
        barriers.tick(1.0, lambda _: False, again_ticks=5, leaderless_ticks_max=40)
    with pytest.raises(NoLeader):
        await future


async def test_freshness_is_the_request_time_of_the_last_applied_read_index() -> None:
    barriers = ReadBarriers(0)
    for now_s in (1.0, 2.0):
        barriers.add(asyncio.get_running_loop().create_future(), 10.0)
        barriers.ask(lambda _: True, now_s)
    barriers.confirm(2, read_index=7)
    barriers.confirm(1, read_index=5)
    assert barriers.fresh_as_of_s is None  # confirmed, but not applied yet
    barriers.open(5)
    assert barriers.fresh_as_of_s == 1.0
    barriers.open(7)
    assert barriers.fresh_as_of_s == 2.0


async def test_a_repeated_read_index_request_keeps_its_first_time() -> None:
    """The answer may be to the first request, which was sent before another client's write."""
    barriers = ReadBarriers(0)
    barriers.add(asyncio.get_running_loop().create_future(), 10.0)
    barriers.ask(lambda _: False, 1.0)  # no leader is known: nothing was sent
    barriers.tick(2.0, lambda _: True, again_ticks=5, leaderless_ticks_max=40)
    for _ in range(5):
        barriers.tick(3.0, lambda _: True, again_ticks=5, leaderless_ticks_max=40)
    assert barriers.confirm(1, read_index=5) == 2.0
    barriers.open(5)
    assert barriers.fresh_as_of_s == 2.0


async def test_an_answer_that_overtakes_another_does_not_make_the_state_older() -> None:
    barriers = ReadBarriers(0)
    for now_s in (1.0, 2.0):
        barriers.add(asyncio.get_running_loop().create_future(), 10.0)
        barriers.ask(lambda _: True, now_s)
    barriers.confirm(2, read_index=5)
    barriers.open(5)
    barriers.confirm(1, read_index=5)
    barriers.open(5)
    assert barriers.fresh_as_of_s == 2.0


async def test_a_lease_can_be_renewed_without_a_waiting_read() -> None:
    barriers, asked = ReadBarriers(0), []
    barriers.ask(lambda context: asked.append(context) or True, 1.0)
    assert not asked
    barriers.ask_anyway()
    barriers.ask(lambda context: asked.append(context) or True, 1.0)
    barriers.ask(lambda context: asked.append(context) or True, 1.0)
    assert asked == [1]


async def test_a_barrier_that_is_confirmed_already_opens_when_its_index_is_applied() -> None:
    future = asyncio.get_running_loop().create_future()
    barriers = ReadBarriers(0)
    barriers.add_confirmed(future, 10.0, read_index=5)
    barriers.open(4)
    assert not future.done()
    barriers.open(5)
    assert future.done()
