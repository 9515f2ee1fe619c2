"""The record of what became of each fault of a run: one line of `faults.jsonl` each."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, TypeAlias

Undo: TypeAlias = Callable[[], None]
"""Reverts a simulated fault."""

OnEffect: TypeAlias = Callable[[], None]
"""To be called when a fault takes effect; idempotent."""


def no_action() -> None:
    """The undo of a fault that has no duration."""


@dataclass(slots=True)
class FaultRecord:
    """One fault; times are those of the history. `ended_ns` None: it was not reverted (yet)."""

    name: str
    target: str
    began_ns: int
    ended_ns: int | None
    detail: str = ""
    took_effect: bool = True

    def to_json(self) -> Mapping[str, Any]:
        return asdict(self)


class FaultLog:
    """The faults of a run in the order in which they began, those without effect included."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.records: list[FaultRecord] = []
        self._now_ns = now_ns

    def begin(self, name: str, target: str, detail: str) -> FaultRecord:
        """A fault begins; it has no effect yet."""
        record = FaultRecord(name, target, self._now_ns(), None, detail, took_effect=False)
        self.records.append(record)
        return record

    def end(self, record: FaultRecord) -> None:
        """The fault has been reverted, unless it was before."""
        if record.ended_ns is None:
            record.ended_ns = self._now_ns()


def detail_of(fault: object) -> str:
    """The parameters of a fault, in a line."""
    assert is_dataclass(fault)
    shown = {each.name: getattr(fault, each.name) for each in fields(fault) if each.name != "at_s"}
    return ", ".join(f"{name} {_shown(value)}" for name, value in shown.items())


def _shown(value: object) -> str:
    match value:
        case enum.Enum():
            return f"“{value.value}”"
        case float():
            return f"{value:.3g}"
        case tuple():
            return f"({', '.join(map(_shown, value))})"
    return f"{type(value).__name__}({detail_of(value)})" if is_dataclass(value) else str(value)
