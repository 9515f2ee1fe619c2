"""Directories of runs, generated from a seed: the files of a real run, in small."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from jepsen_lite.history import Event, Kind

MS = 1_000_000
S = 1_000 * MS
BEGAN_AT = "2026-11-22T22:00:00+00:00"
TEST = {
    "system": "raftkv",
    "workload": "register",
    "nodes": ["node-1", "node-2", "node-3"],
    "seed": 4038,
    "began_at": BEGAN_AT,
    "began_ns": 0,
    "options": {"seconds": 60, "concurrency": 10, "nemesis": ["partition", "kill"]},
    "versions": {"raftkv": "0.1.0", "jepsen-lite": "0.1.0", "python": "3.11.2"},
    "command": ["jepsen-lite", "run", "--workload", "register", "--seed", "4038"],
}
FAULTS = [
    ("partition", "node-1 | node-2, node-3", 10, 20, True),
    ("kill", "node-2", 25, 31, True),
    ("partition", "node-3 | node-1, node-2", 36, 44, True),
    ("pause", "node-1", 46, 47, False),
]


def operation(
    process: int,
    began_ns: int,
    took_ns: int,
    call: tuple[str, str, Any],
    result: Any = None,
    kind: Kind = Kind.OK,
    **more: str,
) -> list[Event]:
    """An invocation and its completion."""
    function, key, value = call
    workload, node = more.get("workload", "register"), more.get("node", "")
    return [
        Event(began_ns, process, Kind.INVOKE, workload, function, key, value, node=node),
        Event(
            began_ns + took_ns,
            process,
            kind,
            workload,
            function,
            key,
            result,
            more.get("error", ""),
            node,
        ),
    ]


def in_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda each: (each.time_ns, each.process))


def load(seconds: int, per_second: int, seed: int = 1, clients: int = 10) -> list[Event]:
    """Registers under faults: slow and of unknown outcome while there is one."""
    rng = Random(seed)
    events: list[Event] = []
    processes = list(range(clients))
    free_ns = [rng.randrange(20 * MS) for _ in processes]
    values = {f"register/{number}": "v0" for number in range(5)}
    for number in range(seconds * per_second):
        client = min(range(clients), key=lambda each: free_ns[each])
        began = free_ns[client]
        faulty = any(low * S <= began <= high * S for _, _, low, high, took in FAULTS if took)
        key, function = rng.choice(list(values)), rng.choice(["read", "read", "write", "cas"])
        took = int(rng.lognormvariate(1.1, 0.6) * MS) * (6 if faulty and rng.random() < 0.3 else 1)
        kind, error, value, result = Kind.OK, "", None, None
        if function == "write":
            value = result = values[key] = f"v{number}"
        elif function == "cas":
            value, result = [values[key], f"v{number}"], [True, f"v{number}"]
            values[key] = f"v{number}"
        else:
            result = [values[key]]
        if faulty and rng.random() < 0.02:
            kind, result, took = Kind.INFO, None, 1 * S
            error = "OutcomeUnknown: no answer within 1 s"
        elif rng.random() < 0.01:
            kind, result, error = Kind.FAIL, None, "Unavailable: no leader"
        events += operation(
            processes[client], began, took, (function, key, value), result, kind, error=error
        )
        if kind is Kind.INFO:
            processes[client] += clients
        pause = max(1, int(clients * S / per_second) - took)
        free_ns[client] = began + took + rng.randrange(1, 2 * pause)
    return in_order(events)


def write_run(
    directory: Path,
    events: Sequence[Event],
    validity: str = "valid",
    findings: Sequence[dict[str, Any]] = (),
    **files: Any,
) -> Path:
    """All files of a run; `files` replaces test, faults, messages or logs."""
    (directory / "nodes").mkdir(parents=True)
    (directory / "test.json").write_text(json.dumps(files.get("test", TEST)))
    lines(directory / "history.jsonl", (json.loads(each.to_json()) for each in events))
    lines(directory / "faults.jsonl", files.get("faults", list(faults())))
    results = {"validity": validity, "findings": list(findings)}
    (directory / "results.json").write_text(json.dumps(results))
    if "messages" in files:
        lines(directory / "messages.jsonl", files["messages"])
    for node, log in files.get("logs", {}).items():
        lines(directory / "nodes" / f"{node}.log", log)
    return directory


def lines(path: Path, found: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in found))


def faults() -> Iterable[dict[str, Any]]:
    for name, target, began, ended, took_effect in FAULTS:
        yield {
            "name": name,
            "target": target,
            "began_ns": began * S,
            "ended_ns": ended * S,
            "detail": "both ways" if name == "partition" else "",
            "took_effect": took_effect,
        }


def finding(checker: str, validity: str = "valid", *problems: dict[str, Any]) -> dict[str, Any]:
    return {
        "checker": checker,
        "validity": validity,
        "problems": list(problems),
        "statistics": {"keys": 5, "operations": 1200},
    }


def positions(events: Sequence[Event], chosen: Iterable[Event]) -> list[int]:
    return [events.index(each) for each in chosen]


def stale_read(directory: Path, seconds: int = 60) -> Path:
    """Linearizable but for one read in the second partition."""
    at = 38 * S
    first = operation(91, at, 4 * MS, ("write", "register/9", "v70"), "v70", node="node-1")
    second = operation(
        92, at + 40 * MS, 5 * MS, ("write", "register/9", "v71"), "v71", node="node-1"
    )
    stale = operation(
        93, at + 61 * MS, 2 * MS, ("read", "register/9", None), ["v70"], node="node-3"
    )
    events = in_order([*load(seconds, 60), *first, *second, *stale])
    text = (
        "register/9 is not linearizable: process 93 read v70 although the write of v71 had been"
        " acknowledged 16 ms before that read began. Only node-3, which was cut off as a deposed"
        " leader, can have answered it."
    )
    problem = {"text": text, "events": positions(events, [*first, *second, *stale])}
    return write_run(
        directory,
        events,
        "invalid",
        [
            finding("linearizability", "invalid", problem),
            finding("sessions"),
            finding("availability", "unknown", {"text": "No read level was recorded."}),
        ],
        messages=list(messages(37 * S, 40 * S)),
        logs=logs(range(60)),
    )


def append_cycle(directory: Path) -> Path:
    """G-single: two transactions, each of which misses what the other wrote."""
    rng = Random(3)
    events: list[Event] = []
    for number in range(40):
        steps = [["append", f"k{number % 3}", number], ["r", f"k{(number + 1) % 3}", None]]
        result = [steps[0], ["r", f"k{(number + 1) % 3}", list(range(number % 3))]]
        took = rng.randrange(2, 20) * MS
        kind = Kind.FAIL if number % 13 == 5 else Kind.OK
        events += operation(
            number % 4, (number // 4) * 25 * MS + MS, took, ("txn", "", steps), result, kind,
            workload="append", error="aborted: conflict" if kind is Kind.FAIL else "",
        )  # fmt: skip
    first = operation(
        11, 130 * MS, 21 * MS, ("txn", "", [["r", "x", None], ["append", "y", 1]]),
        [["r", "x", []], ["append", "y", 1]], workload="append",
    )  # fmt: skip
    second = operation(
        12, 134 * MS, 14 * MS, ("txn", "", [["append", "x", 2], ["r", "y", None]]),
        [["append", "x", 2], ["r", "y", []]], workload="append",
    )  # fmt: skip
    lost = operation(
        13, 160 * MS, 300 * MS, ("txn", "", [["append", "x", 3]]), None, Kind.INFO,
        workload="append", error="OutcomeUnknown: the connection was reset",
    )  # fmt: skip
    events = in_order([*events, *first, *second, *lost])
    problem = {
        "text": "G2-item, a cycle of two anti-dependencies:\n"
        "T1 read x = [] and so came before T2, which appended 2 to x;\n"
        "T2 read y = [] and so came before T1, which appended 1 to y.\n"
        "Each would have to run before the other.",
        "events": positions(events, [*first, *second, *lost]),
    }
    test = {**TEST, "workload": "append"}
    return write_run(
        directory, events, "invalid", [finding("append", "invalid", problem)], test=test, faults=[]
    )


def messages(low_ns: int, high_ns: int) -> Iterable[dict[str, Any]]:
    """Heartbeats of the leader of term 4; node-3 is cut off and stands for election."""
    names = ["node-1", "node-2", "node-3"]
    clocks = {name: dict.fromkeys(names, 0) for name in names}

    def send(at: int, sender: str, receiver: str, kind: str, term: int) -> dict[str, Any]:
        clocks[sender][sender] += 1
        lost = "node-3" in (sender, receiver)
        sent = dict(clocks[sender])
        if not lost:
            for name in names:
                clocks[receiver][name] = max(clocks[receiver][name], sent[name])
        return {
            "time_ns": at, "from": sender, "to": receiver, "kind": kind, "term": term,
            "lost": lost, "clock": sent, "index": 700 + at // (50 * MS) % 100,
        }  # fmt: skip

    for number, at in enumerate(range(low_ns, high_ns, 50 * MS)):
        yield send(at, "node-1", "node-2", "AppendEntries", 4)
        yield send(at + 1 * MS, "node-1", "node-3", "AppendEntries", 4)
        yield send(at + 3 * MS, "node-2", "node-1", "AppendEntriesReply", 4)
        if number % 6 == 5:
            yield send(at + 20 * MS, "node-3", "node-1", "RequestVote", 5 + number // 6)
            yield send(at + 21 * MS, "node-3", "node-2", "RequestVote", 5 + number // 6)


def logs(seconds: Iterable[int]) -> dict[str, list[dict[str, Any]]]:
    by_node: dict[str, list[dict[str, Any]]] = {}
    for number, node in enumerate(TEST["nodes"]):
        by_node[str(node)] = [
            {
                "node": node,
                "term": 4 + second // 20,
                "event": event,
                "level": level,
                "timestamp": f"2026-11-22T22:00:{second:02d}.{milli + number:03d}Z",
            }
            for second in seconds
            for milli, event, level in (
                (50, "snapshot_written", "info"),
                (400, "peer_unreachable", "warning" if second % 7 else "error"),
                (720, "became_leader" if second % 9 == 0 else "entries_committed", "info"),
            )
        ]
    return by_node
