"""One operation, from its invocation to its completion in the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jepsen_lite.history import Event, History, Kind
from jepsen_lite.workloads.base import Invocation, Workload
from raftkv.client.client import Client
from raftkv.errors import Outcome, RaftkvError


def kind_of_failure(error: RaftkvError, workload: Workload, invocation: Invocation) -> Kind:
    """FAIL only for what certainly has not happened; a read that failed has changed nothing."""
    unknown = error.outcome is Outcome.MAYBE_APPLIED
    return Kind.INFO if unknown and invocation.function not in workload.reads else Kind.FAIL


class Recorder:
    """Carries out operations and writes down what was seen of them, at `now_ns`."""

    def __init__(self, history: History, now_ns: Callable[[], int]) -> None:
        self._history = history
        self._now_ns = now_ns

    async def perform(
        self,
        client: Client,
        process: int,
        workload: Workload,
        invocation: Invocation,
        timeout_s: float,
        node: str = "",
    ) -> tuple[Kind, str]:
        """Do it, as this process; how it ended, with the reason of a failure.

        An exception that is no `RaftkvError` is a bug of ours or of the client: the outcome is
        unknown, and it goes on to the caller.
        """

        def note(kind: Kind, value: Any, error: str = "") -> None:
            self._history.append(
                Event(
                    self._now_ns(),
                    process,
                    kind,
                    workload.name,
                    invocation.function,
                    invocation.key,
                    value,
                    error,
                    node,
                )
            )

        note(Kind.INVOKE, invocation.value)
        try:
            value = await workload.run(client, invocation, timeout_s)
        except RaftkvError as error:
            kind = kind_of_failure(error, workload, invocation)
            note(kind, invocation.value, error.reason)
            return kind, error.reason
        except Exception as error:
            note(Kind.INFO, invocation.value, f"{type(error).__name__}: {error}")
            raise
        note(Kind.OK, value)
        return Kind.OK, ""
