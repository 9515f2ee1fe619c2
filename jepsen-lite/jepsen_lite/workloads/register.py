"""Registers: read, write and compare-and-swap on a few keys. Must be linearizable."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers.linearizability import NEVER, Call, Model, Verdict, check
from jepsen_lite.generators import PerKey
from jepsen_lite.history import History, Kind, Operation
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation
from jepsen_lite.workloads.findings import finding_of
from raftkv.client.client import Client


def step(state: str | None, asked: tuple[str, Any], told: Any) -> tuple[bool, str | None]:
    """A register: `asked` is (function, value), `told` what the caller got, None if nothing."""
    function, value = asked
    if function == "read":
        return told[0] == state, state
    if function == "write":
        return True, value
    expected, new = value
    if told is None:
        return True, new if state == expected else state
    swapped, current = told
    if swapped:
        return state == expected, new
    return state != expected and state == current, state


REGISTER = Model(None, step)


class Register:
    """Every value is written once, so that a value says which write a read saw."""

    name = "register"
    reads = frozenset({"read"})

    def __init__(self, keys: int = 4, uses: int | None = None) -> None:
        self._keys = PerKey("register/", keys, uses)
        self._values = itertools.count(1)
        self._last: dict[str, str | None] = {}

    def next(self, rng: Random, worker: int) -> Invocation:
        key = self._keys.draw(rng)
        choice = rng.random()
        if choice < 0.4:
            return Invocation("read", key)
        value = f"v{next(self._values)}"
        if choice < 0.75:
            return Invocation("write", key, value)
        return Invocation("cas", key, [self._last.get(key), value])

    async def run(self, client: Client, invocation: Invocation, timeout_s: float) -> Any:
        key, value = invocation.key, invocation.value
        if invocation.function == "read":
            found = await client.get(key, timeout=timeout_s)
            return [self._noted(key, None if found is None else found.value.decode())]
        if invocation.function == "write":
            await client.put(key, value, timeout=timeout_s)
            self._noted(key, value)
            return value
        expected, new = value
        result = await client.compare_and_swap(key, expected, new, timeout=timeout_s)
        current = None if result.current is None else result.current.value.decode()
        return [result.swapped, self._noted(key, current)]

    def _noted(self, key: str, value: str | None) -> str | None:
        """A guess for the next swap, so that some of them succeed."""
        self._last[key] = value
        return value

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", key) for key in self._keys.used()]

    def check(self, history: History) -> list[Finding]:
        return [finding_of(self.name, self._problems(history))]

    def _problems(self, history: History) -> list[str]:
        problems = []
        operations = list(history.operations(self.name))
        for key in dict.fromkeys(each.invocation.key for each in operations):
            calls = list(_calls(each for each in operations if each.invocation.key == key))
            judgement = check(REGISTER, calls)
            if judgement.verdict is not Verdict.OK:
                told = "; ".join(f"{call.input} -> {call.output}" for call in judgement.stuck)
                problems.append(
                    f"{key}: {judgement.verdict.value} after {len(judgement.longest)} of"
                    f" {len(calls)} calls, where none of these fits: {told}"
                )
        return problems


def _calls(operations: Iterator[Operation]) -> Iterator[Call]:
    """What of the history of one key decides.

    A call that failed did not happen. A write of unknown outcome whose value nobody ever saw may
    be left out: values are unique, so if the rest has an order without it, it has one, and if
    not, it does not help: it only hides the value before it.
    """
    kept = [each for each in operations if each.kind is not Kind.FAIL]
    seen: set[str | None] = set()
    for each in kept:
        if each.completion is not None and each.kind is Kind.OK:
            seen.update(_values_seen(each))
    # A swap whose value was seen has seen what it expected, whatever its caller knows.
    unknown = [each for each in kept if each.kind is Kind.INFO]
    while (
        found := {
            _expected(each)
            for each in unknown
            if each.invocation.function == "cas" and _written(each) in seen
        }
        - seen
    ):
        seen |= found
    for each in kept:
        asked = (each.invocation.function, each.invocation.value)
        if each.completion is not None and each.kind is Kind.OK:
            yield Call(
                each.invocation.time_ns, each.completion.time_ns, asked, each.completion.value
            )
        elif asked[0] != "read" and _written(each) in seen:
            yield Call(each.invocation.time_ns, NEVER, asked)


def _written(operation: Operation) -> str:
    value = operation.invocation.value
    written: str = value[1] if operation.invocation.function == "cas" else value
    return written


def _expected(operation: Operation) -> str | None:
    value = operation.invocation.value
    return value[0] if operation.invocation.function == "cas" else None


def _values_seen(operation: Operation) -> Iterator[str | None]:
    if operation.completion is None:
        return
    value = operation.completion.value
    if operation.invocation.function == "read":
        yield value[0]
    elif operation.invocation.function == "cas":
        # Swapped, it saw what it expected; else it was told what is there.
        yield operation.invocation.value[0] if value[0] else value[1]
