"""Simulated processes, streams and time behave as real ones do, only at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from jepsen_lite.faults.kinds import NetworkConditions
from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.net.pipes import Pipe
from jepsen_lite.sim.process import Process
from jepsen_lite.sim.world import World


def process_in(world: World, rate: float = 1.0) -> Process:
    return Process(world, "p", rate=rate)  # type: ignore[abstract]


def begin(process: Process, work: Coroutine[Any, Any, None]) -> None:
    process.enter(lambda: process.create_task(work))


def test_an_hour_of_sleep_takes_an_hour_of_virtual_time() -> None:
    world, woke = World(1), []

    async def sleep() -> None:
        await asyncio.sleep(3600)
        woke.append(world.now_s)

    begin(process_in(world), sleep())
    assert not world.run_until(3599)
    world.run_until(3601)
    assert 3600 <= woke[0] < 3600.001


def test_a_fast_clock_is_early() -> None:
    world, woke = World(1), []

    async def sleep() -> None:
        started = asyncio.get_running_loop().time()
        await asyncio.sleep(11)
        woke.append((world.now_s, asyncio.get_running_loop().time() - started))

    begin(process_in(world, rate=1.1), sleep())
    world.run_until(20)
    ((at_s, own_s),) = woke
    assert 10 <= at_s < 10.001
    assert own_s >= 11


def test_a_killed_process_does_nothing_more_and_is_unwound_at_once() -> None:
    world, seen = World(1), []

    async def work() -> None:
        try:
            await asyncio.sleep(1)
            seen.append("went on")
        finally:
            seen.append("unwound")

    process = process_in(world)
    begin(process, work())
    world.run_until(0.5)
    process.kill()
    assert seen == ["unwound"]
    world.run_until(5)
    assert seen == ["unwound"]


def test_a_message_to_a_paused_process_arrives_when_it_resumes() -> None:
    world, seen = World(1), []
    process = process_in(world)
    process.pause()
    process.enter(lambda: seen.append(world.now_s))
    world.run_until(3)
    assert seen == []
    process.resume()
    world.run_until(4)
    assert len(seen) == 1


def pipe_in(world: World, network: SimulatedNetwork, got: list[bytes], broke: list[float]) -> Pipe:
    return Pipe(world, network, "a", "b", got.append, lambda: broke.append(world.now_s))


def test_a_stream_keeps_its_order_through_a_cut() -> None:
    world, got, broke = World(1), list[bytes](), list[float]()
    network = SimulatedNetwork(world, NetworkConditions(delay_s_mean=0.05))
    pipe = pipe_in(world, network, got, broke)
    messages = [bytes([number]) for number in range(50)]
    for number, message in enumerate(messages):
        world.after(number * 0.01, lambda message=message: pipe.send(message))  # type: ignore[misc]
    world.after(0.2, lambda: network.cut([("a", "b")]))
    world.after(2.0, lambda: network.mend([("a", "b")]))
    world.run_until(1.9)
    assert 0 < len(got) < 50
    world.run_until(10)
    assert got == messages
    assert not broke


def test_a_stream_that_is_cut_for_long_breaks_and_delivers_nothing_after() -> None:
    world, got, broke = World(1), list[bytes](), list[float]()
    network = SimulatedNetwork(world, NetworkConditions())
    pipe = pipe_in(world, network, got, broke)
    network.cut([("a", "b")])
    pipe.send(b"lost")
    world.run_until(10)
    network.mend([("a", "b")])
    pipe.send(b"late")
    world.run_until(20)
    assert got == []
    assert len(broke) == 1


def test_cuts_that_overlap_end_with_the_last_one() -> None:
    network = SimulatedNetwork(World(1), NetworkConditions())
    network.cut([("a", "b")])
    network.cut([("a", "b")])
    network.mend([("a", "b")])
    assert not network.reaches("a", "b")
    assert network.reaches("b", "a")
    network.mend([("a", "b")])
    assert network.reaches("a", "b")
