"""A run's directory, read as typed values.

A run that died half-way is the one whose report is needed most: what is missing or torn is left
out and named in `RunRecord.gaps`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.history import Event, History, Operation
from jepsen_lite.verdicts import Finding, Problem, Validity

NS_PER_S = 1_000_000_000
# The nodes' logs of a long run can be large; what matters is near its end or near the failure.
LOG_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """One Raft message. `clock` is the sender's vector clock when it sent it."""

    time_ns: int
    sender: str
    receiver: str
    kind: str
    term: int | None
    index: int | None
    lost: bool
    clock: Mapping[str, int]
    received_ns: int | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """`time_ns` is on the history's clock; None where the line's stamp can't be placed on it."""

    time_ns: int | None
    node: str
    level: str
    event: str
    facts: str = ""


@dataclass(frozen=True)
class RunRecord:
    """All that a run left. `validity` None: it was never judged."""

    directory: Path
    test: Mapping[str, Any]
    history: History
    faults: tuple[FaultRecord, ...]
    validity: Validity | None
    findings: tuple[Finding, ...]
    messages: tuple[Message, ...]
    log: tuple[LogLine, ...]
    gaps: tuple[str, ...] = field(default=())

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Those of all workloads, in the order of their invocations."""
        workloads = dict.fromkeys(event.workload for event in self.history.events)
        found = [each for name in workloads for each in self.history.operations(name)]
        return tuple(sorted(found, key=lambda each: each.invoked_at))

    @cached_property
    def began_ns(self) -> int:
        """The first moment of which anything is known."""
        moments = [event.time_ns for event in self.history.events[:1]]
        return min([*moments, *(fault.began_ns for fault in self.faults)], default=0)

    @cached_property
    def ended_ns(self) -> int:
        """The last moment of which anything is known."""
        moments = [self.began_ns, *(event.time_ns for event in self.history.events[-1:])]
        for fault in self.faults:
            moments += [fault.began_ns, fault.ended_ns or 0]
        return max(moments)

    @property
    def failed_ns(self) -> int | None:
        """When something broke that was seen from within, if the run ended with that."""
        found = self.test.get("failed_ns")
        return found if isinstance(found, int) else None

    def seconds(self, time_ns: float) -> float:
        """On the history's clock, as in the checkers' findings."""
        return time_ns / NS_PER_S


def read(directory: Path) -> RunRecord:
    """Read what is there.

    `test.json` places the nodes' logs: `began_at` (ISO, UTC) is the moment at which the history's
    clock showed `began_ns` (0 if absent). Simulated nodes log seconds on the history's own clock.
    """
    gaps: list[str] = []
    test = _object(directory / "test.json", gaps)
    history = _history(directory / "history.jsonl", gaps)
    results = _object(directory / "results.json", gaps)
    findings = tuple(_finding(each) for each in results.get("findings") or ())
    log = _log(directory / "nodes", _Placing.of(test), gaps)
    return RunRecord(
        directory,
        test,
        history,
        tuple(_fault(each) for each in _lines(directory / "faults.jsonl", gaps)),
        _validity(results["validity"]) if "validity" in results else None,
        findings,
        tuple(_message(each) for each in _lines(directory / "messages.jsonl")),
        log,
        tuple(gaps),
    )


def _object(path: Path, gaps: list[str]) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(errors="replace"))
    except FileNotFoundError:
        gaps.append(f"{path.name} is missing")
        return {}
    except ValueError as error:
        gaps.append(f"{path.name} can't be read: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _history(path: Path, gaps: list[str]) -> History:
    """The lines before the first torn one: a verdict names events by their positions."""
    history = History()
    for number, line in enumerate(_text_lines(path, gaps), 1):
        try:
            history.append(Event.from_json(line))
        except (ValueError, KeyError, TypeError) as error:
            gaps.append(f"{path.name} is torn at line {number}: {error}")
            break
    return history


def _lines(path: Path, gaps: list[str] | None = None) -> Iterator[Mapping[str, Any]]:
    """The objects of a file of JSON lines; the last line may be torn. `gaps` None: optional."""
    for line in _text_lines(path, gaps):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def _text_lines(path: Path, gaps: list[str] | None) -> Iterator[str]:
    try:
        with path.open(errors="replace") as file:
            yield from (line for line in file if line.strip())
    except FileNotFoundError:
        if gaps is not None:
            gaps.append(f"{path.name} is missing")


def _finding(found: Mapping[str, Any]) -> Finding:
    problems = tuple(
        Problem(str(each.get("text", "")), tuple(int(at) for at in each.get("events") or ()))
        for each in found.get("problems") or ()
    )
    return Finding(
        str(found.get("checker", "?")),
        _validity(found.get("validity")),
        problems,
        found.get("statistics") or {},
    )


def _validity(text: object) -> Validity:
    """A word we don't know is no pass."""
    return next((each for each in Validity if each.value == text), Validity.UNKNOWN)


def _fault(found: Mapping[str, Any]) -> FaultRecord:
    ended = found.get("ended_ns")
    return FaultRecord(
        str(found.get("name", "?")),
        plain(found.get("target", "")),
        int(found.get("began_ns") or 0),
        None if ended is None else int(ended),
        plain(found.get("detail", "")),
        bool(found.get("took_effect", True)),
    )


def _message(found: Mapping[str, Any]) -> Message:
    return Message(
        int(found.get("time_ns") or 0),
        str(found.get("from", "?")),
        str(found.get("to", "?")),
        str(found.get("kind", "?")),
        found.get("term"),
        found.get("index"),
        bool(found.get("lost", False)),
        {str(node): int(count) for node, count in (found.get("clock") or {}).items()},
        found.get("received_ns"),
    )


def plain(value: object) -> str:
    """A text as it is, a list as its members, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(plain(each) for each in value)
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True, slots=True)
class _Placing:
    """Where a log line's stamp lies on the history's clock."""

    began_ns: int
    began_at: datetime | None

    @classmethod
    def of(cls, test: Mapping[str, Any]) -> _Placing:
        began_ns = int(test.get("began_ns") or 0)
        try:
            return cls(began_ns, datetime.fromisoformat(str(test.get("began_at"))))
        except ValueError:
            return cls(began_ns, None)

    def time_ns(self, stamp: object) -> int | None:
        try:
            on_the_clock_s = float(str(stamp))
            return int(on_the_clock_s * NS_PER_S) if math.isfinite(on_the_clock_s) else None
        except ValueError:
            pass
        try:
            at = datetime.fromisoformat(str(stamp))
            if self.began_at is None:
                return None
            return self.began_ns + int((at - self.began_at).total_seconds() * NS_PER_S)
        except (ValueError, TypeError):  # no stamp at all, or one without a time zone
            return None


def _log(directory: Path, placing: _Placing, gaps: list[str]) -> tuple[LogLine, ...]:
    found = [
        _log_line(path.stem, line, placing)
        for path in sorted(directory.glob("*.log"))
        for line in _tail(path)
    ]
    if not found:
        gaps.append(f"{directory.name}/*.log is missing")
    return tuple(found)


def _tail(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        excess = path.stat().st_size - LOG_BYTES_MAX
        if excess > 0:
            file.seek(excess)
            file.readline()
        for line in file:
            if text := line.decode(errors="replace").strip():
                yield text


def _log_line(node: str, line: str, placing: _Placing) -> LogLine:
    """A line that is no JSON object is an event of its own: a traceback, a crash's last words."""
    try:
        facts = json.loads(line)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        return LogLine(None, node, "", line)
    stamp = facts.pop("timestamp", None)
    level, event = str(facts.pop("level", "")), str(facts.pop("event", ""))
    if node.endswith(str(facts.get("node", "?"))):  # the file's name has it
        del facts["node"]
    text = "  ".join(f"{name}={plain(value)}" for name, value in facts.items())
    return LogLine(placing.time_ns(stamp), node, level, event, text)
