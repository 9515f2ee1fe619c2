"""Carries out operations of a workload and records their events in the history."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from jepsen_lite.clients.protocol import KvClient, OperationError
from jepsen_lite.history import Event, History, Kind
from jepsen_lite.workloads.base import Invocation, Session, Workload


class Completion(NamedTuple):
    """How an operation ended. `reason` is that of the failure, "" if there was none."""

    kind: Kind
    reason: str = ""
    refused: bool = False
    """The store has answered that its present state forbids the operation."""


class Recorder:
    """Carries out operations and records them; `now_ns` is the time of the events.

    A process of the history is a worker in one workload, until an outcome is unknown: so an unknown
    outcome in one workload ends no lock that the worker holds in another.
    """

    def __init__(self, history: History, now_ns: Callable[[], int]) -> None:
        self._history = history
        self._now_ns = now_ns
        self._numbers = itertools.count()
        self._processes: dict[tuple[int, str], int] = {}

    async def perform(
        self,
        client: KvClient,
        worker: int,
        workload: Workload,
        invocation: Invocation,
        timeout_s: float,
        node: str = "",
    ) -> Completion:
        """Carry out one operation of a worker.

        An exception that is no `OperationError` is a bug of the harness or of the client: the
        outcome is unknown, and the exception is raised to the caller.
        """
        process = self._process(worker, workload)

        def record(kind: Kind, what: Invocation, value: Any, error: str = "") -> None:
            now_ns, name = self._now_ns(), workload.name
            self._history.append(
                Event(now_ns, process, kind, name, what.function, what.key, value, error, node)
            )

        def record_fact(what: Invocation) -> None:
            record(Kind.INVOKE, what, what.value)
            record(Kind.OK, what, what.value)

        def failed(kind: Kind, reason: str) -> None:
            if kind is Kind.INFO:
                del self._processes[worker, workload.name]
            record(kind, invocation, invocation.value, reason)

        record(Kind.INVOKE, invocation, invocation.value)
        try:
            session = Session(client, worker, record_fact)
            value = await workload.run(session, invocation, timeout_s)
        except OperationError as error:
            # A read that failed has changed nothing, whatever was lost.
            kind = Kind.FAIL if invocation.function in workload.reads else error.kind
            failed(kind, error.reason)
            return Completion(kind, error.reason, error.refused)
        except Exception as error:
            failed(Kind.INFO, f"{type(error).__name__}: {error}")
            raise
        record(Kind.OK, invocation, value)
        return Completion(Kind.OK)

    def _process(self, worker: int, workload: Workload) -> int:
        process = self._processes.get((worker, workload.name))
        if process is None:
            process = self._processes[worker, workload.name] = next(self._numbers)
        return process
