"""Joins the message traces of real nodes into the run's messages.jsonl.

A trace is what `raftkv serve --trace-messages` writes: sendings and arrivals, with vector clocks.
A sending and its arrival find each other by the sender's own count in its clock, which no two
sendings share. Nodes are processes of one machine here, so their monotonic clock is the history's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUFFIX = ".messages.jsonl"
BYTES_MAX_PER_NODE = 16 << 20
"""Some 80,000 lines: the last minute or two of a run at the usual rate."""


def trace_of(directory: Path, node: str) -> Path:
    """The file that the node is configured to write."""
    return directory / f"{node}{SUFFIX}"


def collect(directory: Path, began_monotonic_ns: int, target: Path) -> int:
    """Join the nodes' traces below `directory` into `target`; returns how many messages.

    Writes nothing where there are none. `began_monotonic_ns` is when the history's clock was 0.
    """
    traces = [_read(path, began_monotonic_ns) for path in sorted(directory.glob(f"*{SUFFIX}"))]
    messages = sorted(_joined(traces), key=lambda each: int(each["time_ns"]))
    if messages:
        with target.open("w") as file:
            file.writelines(json.dumps(each, separators=(",", ":")) + "\n" for each in messages)
    return len(messages)


@dataclass
class _Trace:
    """The trace of one node. Arrivals before `first_ns` are not recorded."""

    node: str
    first_ns: int | None = None
    sent: list[dict[str, Any]] = field(default_factory=list)
    arrived_ns: dict[tuple[str, int], int] = field(default_factory=dict)
    unstamped: list[dict[str, Any]] = field(default_factory=list)


def _read(path: Path, began_ns: int) -> _Trace:
    trace = _Trace(path.name.removesuffix(SUFFIX))
    for line in _lines(path):
        time_ns = int(line["monotonic_ns"]) - began_ns
        if trace.first_ns is None:
            trace.first_ns = time_ns
        if line["what"] != "received":
            message = _message(line, trace.node, line["peer"], time_ns, line["clock"])
            message["lost"] = line["what"] == "dropped"
            trace.sent.append(message)
        elif line["stamp"] is not None:
            # The first of twins counts.
            trace.arrived_ns.setdefault((line["peer"], line["stamp"]), time_ns)
        else:
            message = _message(line, line["peer"], trace.node, time_ns, {})
            trace.unstamped.append({**message, "received_ns": time_ns})
    return trace


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Those of the older half first; a torn one is left out."""
    for part in (path.with_name(f"{path.name}.1"), path):
        if not part.exists():
            continue
        with part.open(errors="replace") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue


def _message(
    line: Mapping[str, Any], sender: str, recipient: str, time_ns: int, clock: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "time_ns": time_ns,
        "from": sender,
        "to": recipient,
        "kind": line["kind"],
        "term": line["term"],
        "index": line["index"],
        "lost": False,
        "received_ns": None,
        "clock": clock,
    }


def _joined(traces: list[_Trace]) -> Iterator[dict[str, Any]]:
    by_node = {trace.node: trace for trace in traces}
    for trace in traces:
        yield from trace.unstamped
        for message in trace.sent:
            to = by_node.get(message["to"])
            if to is not None and not message["lost"]:
                number = message["clock"][trace.node]
                message["received_ns"] = to.arrived_ns.get((trace.node, number))
                known = to.first_ns is not None and to.first_ns <= message["time_ns"]
                message["lost"] = known and message["received_ns"] is None
            yield message
