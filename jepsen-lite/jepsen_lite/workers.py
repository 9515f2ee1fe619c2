"""The workers of a real run: each carries out one operation of the generator at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from jepsen_lite.clients.protocol import LOCK_NOT_ACQUIRED, NOT_ELECTED, KvClient
from jepsen_lite.generators import Generator, Todo, Wait, WorkerContext
from jepsen_lite.history import Kind
from jepsen_lite.recorder import Completion, Recorder

TIMEOUTS_S = (0.5, 1.0, 3.0)
PATIENT_TIMEOUT_S = 10.0
PATIENCE_S = 60.0
PAUSE_AFTER_FAILURE_S = 0.2


@dataclass(frozen=True, slots=True)
class BoundClient:
    """A worker's client, and the only node that the client uses ("": all nodes)."""

    client: KvClient
    node: str = ""


class Workers:
    """All workers of a run. `problems` has what must not happen under any fault."""

    def __init__(
        self,
        clients: Sequence[BoundClient],
        recorder: Recorder,
        seed: int,
        now_s: Callable[[], float],
    ) -> None:
        self.problems: list[str] = []
        self._clients = clients
        self._recorder = recorder
        self._seed = seed
        self._now_s = now_s
        self._busy = 0

    async def run(self, generator: Generator) -> None:
        """Work until the generator has no more operations."""
        async with asyncio.TaskGroup() as group:
            for worker, bound in enumerate(self._clients):
                group.create_task(self._work(generator, worker, bound))

    async def _work(self, generator: Generator, worker: int, bound: BoundClient) -> None:
        rng = Random(f"{self._seed}/worker {worker}")
        while True:
            answer = generator.next(WorkerContext(worker, self._now_s(), rng, self._busy))
            if answer is None:
                return
            if isinstance(answer, Wait):
                await asyncio.sleep(answer.seconds)
                continue
            self._busy += 1
            if answer.patient:
                await self._insist(worker, answer)
            else:
                await self._perform(worker, bound, answer, rng.choice(TIMEOUTS_S))
            self._busy -= 1

    async def _insist(self, worker: int, todo: Todo) -> None:
        """Repeat an operation until it succeeds: everything is healed, so it must succeed soon.

        A failed operation is repeated. One with an unknown outcome is not, because each value is
        written at most once. A refusal is an answer, except for a lock: all holders have released
        it. The operation runs through another client than the worker's own, as another worker,
        because that client need not have seen what the worker's own client saw.
        """
        until_s = self._now_s() + PATIENCE_S
        other_worker = len(self._clients) + worker
        while True:
            ended = await self._perform(other_worker, self._clients[0], todo, PATIENT_TIMEOUT_S)
            still_held = ended.reason in (LOCK_NOT_ACQUIRED, NOT_ELECTED)
            if ended.kind is Kind.OK or (ended.refused and not still_held):
                return
            if ended.kind is Kind.INFO or self._now_s() > until_s:
                asked = todo.invocation
                self.problems.append(
                    f"{todo.workload.name}: {asked.function} on {asked.key} ended with"
                    f" {ended.reason} after everything was healed"
                )
                return
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)

    async def _perform(
        self, worker: int, bound: BoundClient, todo: Todo, timeout_s: float
    ) -> Completion:
        """One operation of a worker, through this client."""
        try:
            return await self._recorder.perform(
                bound.client, worker, todo.workload, todo.invocation, timeout_s, bound.node
            )
        except Exception as error:  # noqa: BLE001 - a bug is reported with the run, not instead of it
            self.problems.append(
                f"{todo.workload.name}: {todo.invocation.function} raised"
                f" {type(error).__name__}: {error}"
            )
            return Completion(Kind.INFO, type(error).__name__)
