"""One operation, from its invocation to its completion in the history."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from jepsen_lite.history import Event, History, Kind
from jepsen_lite.workloads.base import Invocation, Session, Workload
from raftkv.client.client import Client
from raftkv.errors import BY_REASON, Outcome, RaftkvError, Refused


def kind_of_failure(error: RaftkvError, workload: Workload, invocation: Invocation) -> Kind:
    """FAIL only for what certainly has not happened; a read that failed has changed nothing."""
    unknown = error.outcome is Outcome.MAYBE_APPLIED
    return Kind.INFO if unknown and invocation.function not in workload.reads else Kind.FAIL


def is_refusal(reason: str) -> bool:
    """Whether the store has decided so, as it must where a lease has ended or a key is there."""
    return issubclass(BY_REASON.get(reason, RaftkvError), Refused)


class Recorder:
    """Carries out operations and writes down what was seen of them, at `now_ns`.

    A process of the history is a worker at one workload, until an outcome is unknown: so nothing
    that is held over several operations ends with an accident of another workload.
    """

    def __init__(self, history: History, now_ns: Callable[[], int]) -> None:
        self._history = history
        self._now_ns = now_ns
        self._numbers = itertools.count()
        self._processes: dict[tuple[int, str], int] = {}

    async def perform(
        self,
        client: Client,
        seat: int,
        workload: Workload,
        invocation: Invocation,
        timeout_s: float,
        node: str = "",
    ) -> tuple[Kind, str]:
        """Do it, as the worker in this seat; how it ended, with the reason of a failure.

        An exception that is no `RaftkvError` is a bug of ours or of the client: the outcome is
        unknown, and it goes on to the caller.
        """
        process = self._process(seat, workload)

        def note(kind: Kind, what: Invocation, value: Any, error: str = "") -> None:
            now_ns, name = self._now_ns(), workload.name
            self._history.append(
                Event(now_ns, process, kind, name, what.function, what.key, value, error, node)
            )

        def tell(what: Invocation) -> None:
            note(Kind.INVOKE, what, what.value)
            note(Kind.OK, what, what.value)

        def failed(kind: Kind, reason: str) -> None:
            if kind is Kind.INFO:
                del self._processes[seat, workload.name]
            note(kind, invocation, invocation.value, reason)

        note(Kind.INVOKE, invocation, invocation.value)
        try:
            value = await workload.run(Session(client, seat, tell), invocation, timeout_s)
        except RaftkvError as error:
            kind = kind_of_failure(error, workload, invocation)
            failed(kind, error.reason)
            return kind, error.reason
        except Exception as error:
            failed(Kind.INFO, f"{type(error).__name__}: {error}")
            raise
        note(Kind.OK, invocation, value)
        return Kind.OK, ""

    def _process(self, seat: int, workload: Workload) -> int:
        process = self._processes.get((seat, workload.name))
        if process is None:
            process = self._processes[seat, workload.name] = next(self._numbers)
        return process
