"""The workers of a real run: each does one operation at a time, as the generator says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from jepsen_lite.generators import Asker, Generator, Todo, Wait
from jepsen_lite.history import Kind
from jepsen_lite.performing import Recorder, is_refusal
from raftkv.client.client import Client
from raftkv.errors import LockNotAcquired, NotElected

TIMEOUTS_S = (0.5, 1.0, 3.0)
PATIENT_TIMEOUT_S = 10.0
PATIENCE_S = 60.0
PAUSE_AFTER_FAILURE_S = 0.2


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's place: its client, and the node that this client is bound to ("": none)."""

    client: Client
    node: str = ""


class Workers:
    """All workers of a run. `problems` are what must not happen, whatever is broken."""

    def __init__(
        self, seats: Sequence[Seat], recorder: Recorder, seed: int, now_s: Callable[[], float]
    ) -> None:
        self.problems: list[str] = []
        self._seats = seats
        self._recorder = recorder
        self._seed = seed
        self._now_s = now_s
        self._busy = 0

    async def run(self, generator: Generator) -> None:
        """Work until the generator has nothing more."""
        async with asyncio.TaskGroup() as group:
            for worker, seat in enumerate(self._seats):
                group.create_task(self._work(generator, worker, seat))

    async def _work(self, generator: Generator, worker: int, seat: Seat) -> None:
        rng = Random(f"{self._seed}/worker {worker}")
        while True:
            answer = generator.next(Asker(worker, self._now_s(), rng, self._busy))
            if answer is None:
                return
            if isinstance(answer, Wait):
                await asyncio.sleep(answer.seconds)
                continue
            self._busy += 1
            if answer.patient:
                await self._insist(worker, answer)
            else:
                await self._perform(worker, seat, answer, rng.choice(TIMEOUTS_S))
            self._busy -= 1

    async def _insist(self, worker: int, todo: Todo) -> None:
        """Everything is healed, so it must be answered soon.

        What failed may be repeated; what may have happened must not, values are written once. What
        was refused has been answered; only a lock has been given back by all, and must be had.

        Whoever does it is somebody new: the client is another than the worker's own, and need not
        have seen what that one saw.
        """
        until_s = self._now_s() + PATIENCE_S
        newcomer = len(self._seats) + worker
        while True:
            kind, reason = await self._perform(newcomer, self._seats[0], todo, PATIENT_TIMEOUT_S)
            stuck = reason in (LockNotAcquired.reason, NotElected.reason)
            if kind is Kind.OK or (is_refusal(reason) and not stuck):
                return
            if kind is Kind.INFO or self._now_s() > until_s:
                asked = todo.invocation
                self.problems.append(
                    f"{todo.workload.name}: {asked.function} on {asked.key} ended with {reason}"
                    " after everything was healed"
                )
                return
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)

    async def _perform(
        self, number: int, seat: Seat, todo: Todo, timeout_s: float
    ) -> tuple[Kind, str]:
        """As the worker of this number, from this seat."""
        try:
            return await self._recorder.perform(
                seat.client, number, todo.workload, todo.invocation, timeout_s, seat.node
            )
        except Exception as error:  # noqa: BLE001 - a bug is reported with the run, not instead of it
            self.problems.append(
                f"{todo.workload.name}: {todo.invocation.function} raised"
                f" {type(error).__name__}: {error}"
            )
            return Kind.INFO, type(error).__name__
