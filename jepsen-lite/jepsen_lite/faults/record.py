"""What became of the schedule's faults: when each struck, whom, and until when."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeAlias

from jepsen_lite.sim.world import World

NS_PER_S = 1_000_000_000

Undo: TypeAlias = Callable[[], None]
"""Takes back what a fault has done."""

OnEffect: TypeAlias = Callable[[], None]
"""To be called when a fault has met something; more than once is as good as once."""


def no_action() -> None:
    """It is over when it has begun, or nobody waits for it."""


@dataclass(slots=True)
class FaultRecord:
    """One thing that was done to somebody. `ended_s` None: it has not been taken back yet."""

    name: str
    target: str
    detail: str
    began_s: float
    ended_s: float | None = None
    took_effect: bool = False

    def to_json(self) -> Mapping[str, Any]:
        """A line of faults.jsonl."""
        return {
            "name": self.name,
            "target": self.target,
            "began_ns": round(self.began_s * NS_PER_S),
            "ended_ns": round(self.ended_s * NS_PER_S) if self.ended_s is not None else None,
            "detail": self.detail,
            "took_effect": self.took_effect,
        }


class FaultLog:
    """All that was dealt out in a run, in its order: also what met nothing that it could break."""

    def __init__(self, world: World) -> None:
        self.dealt: list[FaultRecord] = []
        self._world = world

    def begin(self, name: str, target: str, detail: str) -> FaultRecord:
        blow = FaultRecord(name, target, detail, self._world.now_s)
        self.dealt.append(blow)
        return blow

    def end(self, blow: FaultRecord) -> None:
        """It has been taken back now, unless it was before."""
        if blow.ended_s is None:
            blow.ended_s = self._world.now_s


def detail_of(fault: object) -> str:
    """What else a fault says of itself, in a line."""
    assert is_dataclass(fault)
    told = {each.name: getattr(fault, each.name) for each in fields(fault) if each.name != "at_s"}
    return ", ".join(f"{name} {_told(found)}" for name, found in told.items())


def _told(found: object) -> str:
    match found:
        case enum.Enum():
            return f"“{found.value}”"
        case float():
            return f"{found:.3g}"
        case tuple():
            return f"({', '.join(map(_told, found))})"
    return f"{type(found).__name__}({detail_of(found)})" if is_dataclass(found) else str(found)
