"""The seed, the rate and the order of phases decide which operation is invoked when."""

from __future__ import annotations

from random import Random
from typing import cast

import pytest

from jepsen_lite.generators import (
    Answer,
    EachOnce,
    EachWorker,
    Generator,
    Limit,
    Load,
    Mix,
    PerKey,
    Phases,
    Rate,
    Stagger,
    TimeLimit,
    Todo,
    Wait,
    WaitUntil,
    WorkerContext,
)
from jepsen_lite.workloads.base import Invocation, Workload
from jepsen_lite.workloads.counter import CounterWorkload
from jepsen_lite.workloads.register import RegisterWorkload
from jepsen_lite.workloads.sets import SetWorkload


def asked(generator: Generator, seconds: float, seed: int = 1, busy: int = 0) -> list[Answer]:
    """The answers to one worker, which sleeps when it must wait and works in no time."""
    answers: list[Answer] = []
    now_s, rng = 0.0, Random(seed)
    while now_s < seconds:
        answer = generator.next(WorkerContext(0, now_s, rng, busy))
        if answer is None:
            break
        if isinstance(answer, Wait):
            now_s += max(answer.seconds, 1e-6)
        else:
            answers.append(answer)
    return answers


def mix() -> Mix:
    workloads: list[Workload] = [RegisterWorkload(), CounterWorkload(), SetWorkload()]
    return Mix([(Load(each), 1.0) for each in workloads])


def drawn(seed: int) -> list[Invocation]:
    answers = asked(Stagger(mix(), 50), 5.0, seed)
    return [answer.invocation for answer in answers if isinstance(answer, Todo)]


def test_the_seed_decides_every_operation() -> None:
    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


@pytest.mark.parametrize("kind", [Rate, Stagger])
def test_a_rate_is_kept_over_time(kind: type[Rate]) -> None:
    assert len(asked(kind(mix(), 100), 10.0)) == pytest.approx(1000, rel=0.1)


def test_a_rate_does_not_catch_up_after_a_stall() -> None:
    rate, rng = Rate(mix(), 10), Random(1)
    assert isinstance(rate.next(WorkerContext(0, 0.0, rng)), Todo)
    given = [rate.next(WorkerContext(0, 60.0, rng)) for _ in range(5)]
    assert sum(isinstance(each, Todo) for each in given) <= 2


def test_limits_end_an_endless_generator() -> None:
    assert len(asked(Limit(mix(), 7), 100.0)) == 7
    assert len(asked(TimeLimit(Rate(mix(), 10), 3.0), 100.0)) == pytest.approx(30, abs=1)


def test_a_phase_begins_when_no_worker_is_busy_with_the_one_before() -> None:
    phases = Phases([Limit(mix(), 1), Limit(mix(), 1)])
    rng = Random(1)
    assert isinstance(phases.next(WorkerContext(0, 0.0, rng)), Todo)
    assert isinstance(phases.next(WorkerContext(1, 0.0, rng, busy=1)), Wait)
    assert isinstance(phases.next(WorkerContext(1, 0.0, rng)), Todo)
    assert phases.next(WorkerContext(0, 0.0, rng)) is None


def test_wait_until_holds_all_operations_back() -> None:
    open_now = False
    hold, asker = WaitUntil(lambda: open_now), WorkerContext(0, 0.0, Random(1))
    assert isinstance(hold.next(asker), Wait)
    open_now = True
    assert hold.next(asker) is None


def test_final_operations_are_drawn_up_when_their_phase_begins() -> None:
    calls = []
    register = RegisterWorkload()

    def draw_up() -> list[tuple[Workload, Invocation]]:
        calls.append(1)
        return [(register, Invocation("read", "a")), (register, Invocation("read", "b"))]

    each = EachOnce(draw_up)
    assert not calls
    given = [cast(Todo, answer) for answer in asked(each, 1.0)]
    assert [todo.invocation.key for todo in given] == ["a", "b"]
    assert all(todo.patient for todo in given)
    assert len(calls) == 1


def test_each_worker_releases_what_it_holds_itself() -> None:
    def draw_up(worker: int) -> list[Todo]:
        return [Todo(RegisterWorkload(), Invocation("read", f"of {worker}"))] if worker == 1 else []

    generator, rng = EachWorker(2, draw_up), Random(1)
    assert isinstance(generator.next(WorkerContext(0, 0.0, rng)), Wait)
    given = generator.next(WorkerContext(1, 0.0, rng))
    assert isinstance(given, Todo)
    assert given.invocation.key == "of 1"
    assert generator.next(WorkerContext(0, 0.0, rng)) is None


def test_a_key_is_used_so_often_and_then_replaced() -> None:
    keys, rng = PerKey("k/", 2, uses=5), Random(1)
    times: dict[str, int] = {}
    for _ in range(100):
        key = keys.draw(rng)
        times[key] = times.get(key, 0) + 1
    assert max(times.values()) == 5
    assert set(times) == set(keys.used())
