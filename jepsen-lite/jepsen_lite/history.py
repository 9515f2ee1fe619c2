"""What the clients saw, in the order in which they saw it. Knows no system and no checker."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


class Kind(enum.StrEnum):
    """What an event says of its operation."""

    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"  # it certainly has not happened
    INFO = "info"  # nobody knows whether it has happened, or will


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
        return json.dumps(fields, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Operation:
    """An invocation with its completion. `completion` None: the run ended before it came."""

    invocation: Event
    completion: Event | None

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
        """The operations of one workload, in the order of their invocations."""
        open_at: dict[int, int] = {}
        pairs: list[tuple[Event, Event | None]] = []
        for event in self.events:
            if event.workload != workload:
                continue
            if event.kind is Kind.INVOKE:
                open_at[event.process] = len(pairs)
                pairs.append((event, None))
            else:
                position = open_at.pop(event.process)
                pairs[position] = (pairs[position][0], event)
        return (Operation(*pair) for pair in pairs)

    def to_lines(self) -> str:
        """The history as JSON lines."""
        return "".join(event.to_json() + "\n" for event in self.events)
