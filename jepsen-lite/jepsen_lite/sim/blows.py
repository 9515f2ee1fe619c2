"""What became of the schedule's faults: when each struck, whom, and until when."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from jepsen_lite.sim.faults import (
    Ask,
    BrokenLink,
    ClockJump,
    ClockRate,
    Crash,
    Fault,
    FullDisk,
    Isolate,
    Pause,
    Reconfigure,
    Rot,
    SlowDisk,
    SlowLink,
    Split,
    Stop,
    Transfer,
    WallClock,
)

NS_PER_S = 1_000_000_000


@dataclass(slots=True)
class Blow:
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


def aimed_at(fault: Fault) -> tuple[str, ...]:
    """The nodes at which a fault is directed, as the schedule names them; none: at all, or at
    whoever comes along.
    """
    match fault:
        case Crash() | SlowDisk():
            return fault.nodes
        case Split():
            return fault.group
        case SlowLink() | BrokenLink():
            return (fault.source, fault.target)
        case Transfer():
            return (fault.to,)
        case Reconfigure():
            return (fault.remove,) if fault.remove else ()
        case (
            Pause() | Isolate() | FullDisk() | Stop() | Rot() | ClockJump() | ClockRate()
            | WallClock() | Ask()
        ):  # fmt: skip
            return (fault.node,)
    return ()


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
