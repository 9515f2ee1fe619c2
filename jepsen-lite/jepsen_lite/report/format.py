"""Operations, times and values as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from jepsen_lite.history import Kind, Operation
from jepsen_lite.report.record import NS_PER_S

VALUE_CHARS_MAX = 240
_KINDS = {
    Kind.OK: "ok",
    Kind.FAIL: "failed: it has not happened",
    Kind.INFO: "outcome unknown: it may take effect at any later moment",
}


def duration(span_ns: float) -> str:
    """`850 µs`, `4.13 ms`, `12.4 s`: three figures and the unit that fits."""
    for unit_ns, unit in ((NS_PER_S, "s"), (1_000_000, "ms"), (1_000, "µs")):
        if abs(span_ns) >= unit_ns:
            return f"{_figures(span_ns / unit_ns)} {unit}"
    return f"{span_ns:.0f} ns"


def _figures(number: float) -> str:
    """Three of them; more only before the point."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"


def shortened(text: str, chars_max: int = VALUE_CHARS_MAX) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def value(found: Any) -> str:
    """A value as a reader of the workload knows it; transactions as calls, the rest as JSON."""
    if _is_transaction(found):
        return ", ".join(_step(*each) for each in found)
    return shortened(json.dumps(found, ensure_ascii=False, separators=(", ", ": ")))


def _is_transaction(found: Any) -> bool:
    return (
        isinstance(found, list)
        and bool(found)
        and all(
            isinstance(step, list) and len(step) == 3 and isinstance(step[0], str) for step in found
        )
    )


def _step(function: str, key: object, argument: object) -> str:
    if function in ("r", "read"):
        return f"read {key}" if argument is None else f"read {key} = {value(argument)}"
    return f"{function} {key} {value(argument)}"


def call(operation: Operation) -> str:
    """The invocation and the result: `read register/1 → ["v7"]`."""
    asked = operation.invocation
    parts = [asked.function, asked.key]
    if asked.value is not None and not _answers_itself(operation):
        parts.append(value(asked.value))
    result = ""
    if operation.kind is Kind.OK and operation.completion is not None:
        answer = operation.completion.value
        if _answers_itself(operation):
            result = f": {value(answer)}"
        elif answer is not None and answer != asked.value:
            result = f" → {value(answer)}"
    return shortened(" ".join(part for part in parts if part) + result)


def _answers_itself(operation: Operation) -> bool:
    """A transaction's answer repeats its steps, with what they read."""
    return (
        operation.kind is Kind.OK
        and operation.completion is not None
        and _is_transaction(operation.completion.value)
    )


def ending(operation: Operation) -> str:
    """`ok after 4.1 ms`, with the error if there was one."""
    completion = operation.completion
    if completion is None:
        return "no answer before the run ended"
    took = duration(completion.time_ns - operation.invocation.time_ns)
    error = f" ({shortened(completion.error)})" if completion.error else ""
    return f"{_KINDS[operation.kind]}, after {took}{error}"


def details(operation: Operation, began_s: float) -> str:
    """Everything about one operation, a fact to a line."""
    invocation = operation.invocation
    lines = [
        call(operation),
        ending(operation),
        f"began {began_s:.6f} s · process {invocation.process} · {invocation.workload}",
    ]
    node = _node(operation)
    events = [f"{at}" for at in (operation.invoked_at, operation.completed_at) if at >= 0]
    lines.append(
        (f"asked {node} · " if node else "") + f"events {' and '.join(events)} of history.jsonl"
    )
    return "\n".join(lines)


def _node(operation: Operation) -> str:
    completion = operation.completion
    return operation.invocation.node or (completion.node if completion is not None else "")


def story(operations: Sequence[Operation]) -> list[str]:
    """The operations as sentences, each with how it lies to the one before it."""
    sentences = []
    for number, operation in enumerate(operations):
        invocation = operation.invocation
        node = f" asked {node}:" if (node := _node(operation)) else ":"
        began_s = invocation.time_ns / NS_PER_S
        relation = _relation(operations[number - 1], operation, number) if number else ""
        sentences.append(
            f"At {began_s:.6f} s process {invocation.process}{node} {call(operation)}"
            f" — {ending(operation)}.{relation}"
        )
    return sentences


def _relation(before: Operation, operation: Operation, number: int) -> str:
    began_ns = operation.invocation.time_ns
    if before.completion is not None and before.kind is not Kind.INFO:
        gap_ns = began_ns - before.completion.time_ns
        if gap_ns > 0:
            return f" Operation {number} was over {duration(gap_ns)} before this one began."
    elif before.completion is None or before.completion.time_ns < began_ns:
        return f" Operation {number} may have taken effect before or after this one."
    return f" It overlaps operation {number}."


def count(number: int, one: str, many: str = "") -> str:
    """`1 fault`, `1,204 operations`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listing(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = list(names) or [""]
    return f"{', '.join(first)} and {last}" if first else last
