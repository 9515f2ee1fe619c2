"""The history of a run: every event that its clients observed, in order, and its operations."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

NEVER_NS = float("inf")
SETTLED = "SETTLED"
"""The error of a completion that was derived from the committed history, not observed."""


class Kind(enum.StrEnum):
    """The type of an event: the invocation, or the outcome."""

    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"  # it certainly was not applied
    INFO = "info"  # it may have been applied, or may still be


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a history. `time_ns` is monotonic; a process does one operation at a time.

    A process whose operation ended as INFO never comes back under its number: that operation
    may take effect at any later moment.
    """

    time_ns: int
    process: int
    kind: Kind
    workload: str
    function: str
    key: str
    value: Any
    error: str = ""
    node: str = ""  # the only node that the worker's client knows, if so

    def to_json(self) -> str:
        """One JSON object, its fields always in the same order."""
        fields = {
            "time": self.time_ns,
            "process": self.process,
            "type": self.kind,
            "workload": self.workload,
            "f": self.function,
            "key": self.key,
            "value": self.value,
        }
        if self.error:
            fields["error"] = self.error
        if self.node:
            fields["node"] = self.node
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Event:
        """The inverse of `to_json`."""
        fields = json.loads(line)
        return cls(
            fields["time"],
            fields["process"],
            Kind(fields["type"]),
            fields["workload"],
            fields["f"],
            fields["key"],
            fields["value"],
            fields.get("error", ""),
            fields.get("node", ""),
        )


@dataclass(frozen=True, slots=True)
class Operation:
    """An invocation with its completion. `completion` None: the run ended before it came.

    `invoked_at` and `completed_at` are positions in `History.events`.
    """

    invocation: Event
    completion: Event | None
    invoked_at: int = -1
    completed_at: int = -1

    @property
    def kind(self) -> Kind:
        return self.completion.kind if self.completion is not None else Kind.INFO


class History:
    """All events of a run."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, event: Event) -> None:
        self.events.append(event)

    def operations(self, workload: str) -> Iterator[Operation]:
        """The operations of one workload, in the order of their invocations.

        A completion without an invocation is no operation: a file may be torn.
        """
        # By function as well: facts that a worker learns are recorded between the events of its
        # operation.
        open_at: dict[tuple[int, str], int] = {}
        found: list[Operation] = []
        for position, event in enumerate(self.events):
            if event.workload != workload:
                continue
            if event.kind is Kind.INVOKE:
                open_at[event.process, event.function] = len(found)
                found.append(Operation(event, None, position))
            else:
                begun = open_at.pop((event.process, event.function), None)
                if begun is None:
                    continue
                found[begun] = Operation(
                    found[begun].invocation, event, found[begun].invoked_at, position
                )
        return iter(found)

    def to_lines(self) -> str:
        """The history as JSON lines."""
        return "".join(event.to_json() + "\n" for event in self.events)

    @classmethod
    def of_lines(cls, lines: Iterable[str]) -> History:
        """The inverse of `to_lines`."""
        history = cls()
        history.events = [Event.from_json(line) for line in lines if line.strip()]
        return history


def asked(operations: Iterable[Operation], *functions: str) -> Iterator[Operation]:
    """Those of these functions that may have happened: all but the failed ones."""
    return (
        each
        for each in operations
        if each.invocation.function in functions and each.kind is not Kind.FAIL
    )


def answered(operations: Iterable[Operation], *functions: str) -> Iterator[Operation]:
    """Those of these functions that certainly happened."""
    return (each for each in asked(operations, *functions) if each.kind is Kind.OK)


def returned(operation: Operation) -> Any:
    """The result of the operation; None if it never completed."""
    return None if operation.completion is None else operation.completion.value


def was_settled(operation: Operation) -> bool:
    """Whether the caller has no answer, and the outcome was derived."""
    return operation.completion is not None and operation.completion.error == SETTLED


def began_ns(operation: Operation) -> int:
    return operation.invocation.time_ns


def ended_ns(operation: Operation) -> float:
    """Until when it may take effect; without end if its outcome is unknown."""
    if operation.completion is None or operation.kind is Kind.INFO:
        return NEVER_NS
    return operation.completion.time_ns


def before(earlier: Operation, later: Operation) -> bool:
    """Whether the first was over when the second began, so that no order can swap them."""
    return ended_ns(earlier) < began_ns(later)
