"""Generators: which operation is invoked next, and when.

An idle worker asks a generator, which answers with a `Todo`, with `Wait`, or with None: it has no
more operations for any worker. All randomness comes from the worker's context, so a seed and the
order of the requests decide everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

from jepsen_lite.workloads.base import Invocation, Workload

LOOK_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True)
class Todo:
    """An operation for a worker. `patient`: it must succeed, and is repeated where it failed."""

    workload: Workload
    invocation: Invocation
    patient: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The worker that asks: its number, the time, its randomness, and how many workers are busy."""

    worker: int
    now_s: float
    rng: Random
    busy: int = 0


Answer: TypeAlias = Todo | Wait | None


class Generator(Protocol):
    """A source of operations."""

    def next(self, asker: WorkerContext) -> Answer: ...


class Load:
    """The operations of one workload, without end."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def next(self, asker: WorkerContext) -> Answer:
        return Todo(self._workload, self._workload.next(asker.rng, asker.worker))


class Mix:
    """Any of several generators, by weight, until each is exhausted."""

    def __init__(self, parts: Sequence[tuple[Generator, float]]) -> None:
        self._parts = list(parts)

    def next(self, asker: WorkerContext) -> Answer:
        while self._parts:
            weights = [weight for _, weight in self._parts]
            (chosen,) = asker.rng.choices(self._parts, weights)
            answer = chosen[0].next(asker)
            if answer is not None:
                return answer
            self._parts.remove(chosen)
        return None


class Limit:
    """The first `count` operations."""

    def __init__(self, source: Generator, count: int) -> None:
        self._source = source
        self._left = count

    def next(self, asker: WorkerContext) -> Answer:
        if self._left == 0:
            return None
        answer = self._source.next(asker)
        self._left -= isinstance(answer, Todo)
        return answer


class TimeLimit:
    """For `seconds` from the first question on."""

    def __init__(self, source: Generator, seconds: float) -> None:
        self._source = source
        self._seconds = seconds
        self._until_s: float | None = None

    def next(self, asker: WorkerContext) -> Answer:
        if self._until_s is None:
            self._until_s = asker.now_s + self._seconds
        left_s = self._until_s - asker.now_s
        if left_s <= 0:
            return None
        answer = self._source.next(asker)
        return Wait(min(answer.seconds, left_s)) if isinstance(answer, Wait) else answer


class Rate:
    """So many operations per second over all workers, evenly.

    A delay is not caught up: after a stall there is no burst.
    """

    def __init__(self, source: Generator, per_s: float) -> None:
        self._source = source
        self._gap_s = 1 / per_s
        self._next_s = 0.0

    def next(self, asker: WorkerContext) -> Answer:
        if asker.now_s < self._next_s:
            return Wait(self._next_s - asker.now_s)
        answer = self._source.next(asker)
        if isinstance(answer, Todo):
            self._next_s = max(self._next_s, asker.now_s - self._gap_s) + self._gap(asker)
        return answer

    def _gap(self, asker: WorkerContext) -> float:
        return self._gap_s


class Stagger(Rate):
    """As `Rate`, with gaps that are equal only on average: some come at once, some late."""

    def _gap(self, asker: WorkerContext) -> float:
        return asker.rng.uniform(0, 2 * self._gap_s)


class WaitUntil:
    """Nothing, until the condition holds."""

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds

    def next(self, asker: WorkerContext) -> Answer:
        return None if self._holds() else Wait(LOOK_AGAIN_S)


class EachOnce:
    """These operations, each once, by any worker; each must succeed. Determined at the first
    request.
    """

    def __init__(self, draw_up: Callable[[], Sequence[tuple[Workload, Invocation]]]) -> None:
        self._draw_up = draw_up
        self._todo: list[Todo] | None = None

    def next(self, asker: WorkerContext) -> Answer:
        if self._todo is None:
            self._todo = [Todo(*each, patient=True) for each in self._draw_up()]
        return self._todo.pop(0) if self._todo else None


class EachWorker:
    """The operations of each worker, once. Determined when the worker asks first."""

    def __init__(self, seats: int, draw_up: Callable[[int], Sequence[Todo]]) -> None:
        self._draw_up = draw_up
        self._missing = set(range(seats))
        self._todo: dict[int, list[Todo]] = {}

    def next(self, asker: WorkerContext) -> Answer:
        if asker.worker in self._missing:
            self._missing.remove(asker.worker)
            self._todo[asker.worker] = list(self._draw_up(asker.worker))
        todo = self._todo.get(asker.worker)
        if todo:
            return todo.pop(0)
        return Wait(LOOK_AGAIN_S) if self._missing or any(self._todo.values()) else None


class Phases:
    """One after the other; the next begins when all workers are done with the one before."""

    def __init__(self, phases: Sequence[Generator]) -> None:
        self._phases = list(phases)

    def next(self, asker: WorkerContext) -> Answer:
        while self._phases:
            answer = self._phases[0].next(asker)
            if answer is not None:
                return answer
            if asker.busy:
                return Wait(LOOK_AGAIN_S)
            self._phases.pop(0)
        return None


class PerKey:
    """Keys that are replaced by new ones after so many `uses`; None: never.

    Judging a key costs more the longer its history is and the more of its outcomes are unknown.
    """

    def __init__(self, prefix: str, keys: int, uses: int | None = None) -> None:
        self._prefix = prefix
        self._uses = math.inf if uses is None else uses
        self._current = list(range(keys))
        self._left = [self._uses] * keys
        self._next = keys

    def draw(self, rng: Random) -> str:
        """A key for the next operation."""
        slot = rng.randrange(len(self._current))
        if self._left[slot] == 0:
            self._current[slot], self._left[slot] = self._next, self._uses
            self._next += 1
        self._left[slot] -= 1
        return f"{self._prefix}{self._current[slot]}"

    def used(self) -> list[str]:
        """All keys that there ever were."""
        return [f"{self._prefix}{number}" for number in range(self._next)]
