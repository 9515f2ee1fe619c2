"""A run on real processes, from the first start to the verdict.

Calm load first, which shows what the database does when nothing is wrong; then load under faults;
then everything is healed, must work again, and is read once more.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, Protocol

from jepsen_lite.clients.protocol import OperationError
from jepsen_lite.db.base import Database, DatabaseFailed, do_all
from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.generators import (
    EachOnce,
    EachWorker,
    Generator,
    Load,
    Mix,
    Phases,
    Rate,
    Stagger,
    TimeLimit,
    Todo,
    WaitUntil,
)
from jepsen_lite.history import History
from jepsen_lite.nemesis.base import Nemesis
from jepsen_lite.nemesis.catalogue import NEMESES
from jepsen_lite.nemesis.injector import FaultInjector
from jepsen_lite.nemesis.schedule import draw_schedule
from jepsen_lite.options import RunOptions
from jepsen_lite.recorder import Recorder
from jepsen_lite.store import RunDirectory, WrittenHistory
from jepsen_lite.workers import BoundClient, Workers
from jepsen_lite.workloads.base import HistoryReadingWorkload, HoldingWorkload, Invocation, Workload
from jepsen_lite.workloads.catalogue import WORKLOADS

TICK_S = 0.2


class Progress(Protocol):
    """Receives the progress of a run."""

    def phase(self, name: str, seconds: float | None) -> None:
        """A new phase begins; `seconds` is how long it takes, if that is known."""

    def follow(self, history: History) -> None:
        """`history` is the one that operations are recorded in."""

    def fault(self, record: FaultRecord) -> None:
        """A fault is over."""

    def tick(self) -> None:
        """Time goes by."""


class Run:
    """One run on real processes. `now_ns` is the time of its history and its faults."""

    def __init__(
        self,
        options: RunOptions,
        database: Database,
        directory: RunDirectory,
        command: Sequence[str],
        progress: Progress,
    ) -> None:
        self.options = options
        self.database = database
        self.directory = directory
        self.problems: list[str] = []
        self._progress = progress
        self._started_ns = time.monotonic_ns()
        self._phases: dict[str, int] = {}
        self._test: dict[str, Any] = {
            "system": options.system,
            "workloads": list(options.workloads),
            "nemeses": list(options.nemeses),
            "seed": options.seed,
            "options": {
                "seconds": options.seconds,
                "concurrency": options.concurrency,
                "rate": options.rate,
            },
            "command": list(command),
            "began_at": datetime.now(UTC).isoformat(),  # when the history's clock showed 0
        }
        self._workloads: list[Workload] = [WORKLOADS[name]() for name in options.workloads]
        self._nemeses: list[Nemesis] = [NEMESES[name] for name in options.nemeses]
        self._healed = False
        database.on_event = self._record_event
        self._failures: list[str] = []  # of the harness: they say nothing of the database

    def now_ns(self) -> int:
        return time.monotonic_ns() - self._started_ns

    def now_s(self) -> float:
        return self.now_ns() / 1e9

    async def execute(self) -> None:
        """Carry out the run without judging it. Problems outside the history are in test.json."""
        self._write_test()
        history = WrittenHistory(self.directory)
        self._progress.follow(history)
        ticking = asyncio.create_task(self._tick())
        try:
            for nemesis in self._nemeses:
                nemesis.prepare(self.database)
            self._begin("start", None)
            if await self._started():
                await self._exercise(history)
        except (DatabaseFailed, OperationError) as error:
            self.problems.append(str(error))
        except asyncio.CancelledError:
            self._failures.append("the run was interrupted")
        except Exception:  # noqa: BLE001 - what was seen until now is judged and reported
            self._failures.append(f"the harness itself failed:\n{traceback.format_exc()}")
        finally:
            history.close()
            self._write_test()
            await self._stop()
            ticking.cancel()
            self._write_test()

    async def _started(self) -> bool:
        """Whether the cluster started; without it there is nothing to judge."""
        try:
            await self.database.start()
        except (DatabaseFailed, OperationError) as error:
            self._failures.append(f"the cluster could not be started: {error}")
            return False
        return True

    async def _stop(self) -> None:
        """Stop the database. The history is judged even if that fails or the terminal is gone."""
        try:
            await do_all([lambda: self._begin("stop", None), self.database.stop])
        except DatabaseFailed as error:
            self._failures.append(f"not everything could be cleaned up: {error}")

    async def _exercise(self, history: History) -> None:
        recorder = Recorder(history, self.now_ns)
        clients = await self._connect()
        workers = Workers(clients, recorder, self.options.seed, self.now_s)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._nemesis())
                group.create_task(workers.run(self._generator()))
        finally:
            self.problems += workers.problems
            self.problems += self.database.died()
            closing = (each.client.close() for each in clients)
            await asyncio.gather(*closing, return_exceptions=True)

    async def _connect(self) -> list[BoundClient]:
        """Every other worker knows only one node, so that it sees that node's state."""
        clients: list[BoundClient] = []
        for worker in range(self.options.concurrency):
            nodes = self.database.nodes
            node = nodes[worker // 2 % len(nodes)] if worker % 2 else ""
            clients.append(BoundClient(await self.database.connect(node), node))
        return clients

    def _generator(self) -> Generator:
        options = self.options
        mix = Mix([(Load(workload), 1.0) for workload in self._workloads])
        return Phases(
            [
                TimeLimit(Rate(mix, options.rate), options.calm_s),
                TimeLimit(Stagger(mix, options.rate), options.seconds),
                WaitUntil(lambda: self._healed),
                EachWorker(options.concurrency, self._releases),
                EachOnce(self._last_writes),
                EachOnce(
                    lambda: [(each, last) for each in self._workloads for last in each.final()]
                ),
                EachOnce(self._histories),
            ]
        )

    def _releases(self, worker: int) -> list[Todo]:
        holders = [each for each in self._workloads if isinstance(each, HoldingWorkload)]
        back = [(each, each.release(worker)) for each in holders]
        return [Todo(workload, what) for workload, what in back if what is not None]

    def _last_writes(self) -> list[tuple[Workload, Invocation]]:
        rng = Random(f"{self.options.seed}/last writes")
        # An operation that waits for other holders proves nothing; the final operations must
        # succeed.
        others = [each for each in self._workloads if not isinstance(each, HoldingWorkload)]
        return [(each, each.next(rng, 0)) for each in others]

    def _histories(self) -> list[tuple[Workload, Invocation]]:
        # After all other operations: a write that the history lacks then was never visible.
        remembered = [each for each in self._workloads if isinstance(each, HistoryReadingWorkload)]
        return [(each, read) for each in remembered for read in each.histories()]

    async def _nemesis(self) -> None:
        options = self.options
        injector = FaultInjector(self.database, self._nemeses, self.now_ns, self._record_fault)
        schedule = draw_schedule(options.seed, self._nemeses, options.nodes, options.seconds)
        self._begin("calm", options.calm_s)
        await asyncio.sleep(options.calm_s)
        self._begin("faults", options.seconds)
        await injector.carry_out(schedule)
        await asyncio.sleep(self._phases["faults"] / 1e9 + options.seconds - self.now_s())
        self._begin("heal", None)
        await injector.recover()
        self.problems += injector.problems
        self._begin("final", None)
        self._healed = True

    async def _tick(self) -> None:
        while True:
            self._progress.tick()
            await asyncio.sleep(TICK_S)

    def _record_fault(self, record: FaultRecord) -> None:
        self.directory.add_fault(record.to_json())
        self._progress.fault(record)

    def _record_event(self, name: str, node: str, detail: str) -> None:
        now_ns = self.now_ns()
        self._record_fault(FaultRecord(name, node, now_ns, now_ns, detail))

    def _begin(self, phase: str, seconds: float | None) -> None:
        self._phases[phase] = self.now_ns()
        self._progress.phase(phase, seconds)

    def _write_test(self) -> None:
        more = {
            "nodes": list(self.database.nodes),
            "versions": dict(self.database.versions()),
            "phases": self._phases,
            "problems": self.problems,
            "crash": "\n".join(self._failures),
            "ended_ns": self.now_ns(),
        }
        self.directory.write_test({**self._test, **more})
