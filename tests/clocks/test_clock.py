"""Clocks are shared by threads, and keep their time after a refusal."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from structlog.testing import capture_logs

from raftkv.clocks import (
    ClockDrift,
    HybridClock,
    HybridTime,
    LamportClock,
    LamportTime,
    VectorClock,
    VectorTime,
    stamp,
)
from raftkv.errors import InvalidRequest


def test_threads_that_share_a_clock_never_get_the_same_time() -> None:
    class Yielding(LamportClock):
        def _keep(self, to: LamportTime) -> None:
            time.sleep(0)  # lets the other threads in, as a disk would

    clock = Yielding()
    with ThreadPoolExecutor(max_workers=4) as pool:
        ticked = list(pool.map(lambda _: clock.tick(), range(1000)))
    assert len(set(ticked)) == 1000
    assert clock.now == LamportTime(1000)


def test_a_clock_keeps_its_time_after_a_refusal() -> None:
    lamport, vector = LamportClock(LamportTime(5)), VectorClock("a", VectorTime({"a": 5}))
    hybrid = HybridClock(HybridTime(5), wall_ms=lambda: 5, drift_ms_max=10)
    with pytest.raises(InvalidRequest):
        lamport.receive(LamportTime(2**63))
    with pytest.raises(InvalidRequest):
        vector.receive(VectorTime().without_member("a"))
    with pytest.raises(ClockDrift):
        hybrid.receive(HybridTime(16))
    assert (lamport.now, vector.now, hybrid.now) == (
        LamportTime(5),
        VectorTime({"a": 5}),
        HybridTime(5),
    )


def test_vectors_stay_correct_while_members_are_added_and_retired() -> None:
    clock = VectorClock("a")
    clock.add_member("b")
    assert str(clock.receive(VectorTime({"b": 4}))) == "[a:2 b:4]"
    assert str(clock.retire_member("b")) == "[a:3 -b]"
    # Peers may not know of the retirement yet: their counts of the retired member are dropped.
    assert str(clock.receive(VectorTime({"b": 9, "c": 1}))) == "[a:4 c:1 -b]"
    with pytest.raises(InvalidRequest, match="retired"):
        clock.retire_member("a")


def test_hybrid_time_does_not_go_back_with_the_wall_clock() -> None:
    readings = iter([1000, 1000, 400, 1001])
    clock = HybridClock(wall_ms=lambda: next(readings))
    assert [str(clock.tick()) for _ in range(4)] == [
        "000000000001000.00000",
        "000000000001000.00001",
        "000000000001000.00002",
        "000000000001001.00000",
    ]


def test_each_log_event_is_an_event_of_the_clock() -> None:
    clock = LamportClock(LamportTime(7))
    with capture_logs(processors=[stamp(clock)]) as logged:
        structlog.get_logger().info("one")
        clock.observe(LamportTime(100))
        structlog.get_logger().info("two")
    assert [event["lamport"] for event in logged] == [8, 101]
