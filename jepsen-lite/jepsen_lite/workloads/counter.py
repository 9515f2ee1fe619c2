"""A counter whose increments must each take effect exactly once, however often they are retried.

The store counts the puts of a key in its `version`; what each put left behind is found in the
key's history.
"""

from __future__ import annotations

import itertools
from collections import Counter as Tally
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.history import Event, History, Kind
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation
from jepsen_lite.workloads.findings import finding_of
from raftkv.client.client import Client

KEY = "counter"


class Counter:
    """Increments are puts of unique values to one key."""

    name = "counter"
    reads = frozenset({"read", "trace"})

    def __init__(self) -> None:
        self._values = itertools.count(1)

    def next(self, rng: Random, worker: int) -> Invocation:
        if rng.random() < 0.2:
            return Invocation("read", KEY)
        return Invocation("increment", KEY, f"i{next(self._values)}")

    async def run(self, client: Client, invocation: Invocation, timeout_s: float) -> Any:
        if invocation.function == "increment":
            result = await client.put(KEY, invocation.value, timeout=timeout_s)
            return [invocation.value, result.revision]
        if invocation.function == "read":
            found = await client.get(KEY, timeout=timeout_s)
            return 0 if found is None else found.version
        return await self._trace(client, timeout_s)

    async def _trace(self, client: Client, timeout_s: float) -> list[list[Any]]:
        """Every version that the key ever had, from the last to the first."""
        trace: list[list[Any]] = []
        revision = 0
        while True:
            found = await client.get(KEY, revision=revision, timeout=timeout_s)
            if found is None:
                return trace
            trace.append([found.version, found.value.decode(), found.mod_revision])
            if found.version == 1:
                return trace
            revision = found.mod_revision - 1

    def final(self) -> Sequence[Invocation]:
        return [Invocation("trace", KEY)]

    def check(self, history: History) -> list[Finding]:
        return [finding_of(self.name, self._problems(history))]

    def _problems(self, history: History) -> list[str]:
        operations = list(history.operations(self.name))
        traces = [
            each.completion.value
            for each in operations
            if each.invocation.function == "trace" and each.kind is Kind.OK and each.completion
        ]
        if not traces:
            return ["the counter's history was never read"]
        versions, values, _ = zip(*traces[-1], strict=True) if traces[-1] else ((), (), ())
        revision_of = {value: revision for _, value, revision in traces[-1]}
        increments = {
            each.invocation.value: each
            for each in operations
            if each.invocation.function == "increment"
        }
        problems = [
            f"{value} took effect {times} times"
            for value, times in Tally(values).items()
            if times > 1
        ]
        if list(versions) != list(range(len(versions), 0, -1)):
            problems.append(f"versions have a gap: {versions}")
        for value, each in increments.items():
            if each.kind is Kind.OK and each.completion is not None:
                if value not in revision_of:
                    problems.append(f"{value} was acknowledged and is lost")
                elif revision_of[value] != each.completion.value[1]:
                    problems.append(
                        f"{value} took effect at revision {revision_of[value]}, but its caller was"
                        f" told {each.completion.value[1]}"
                    )
            elif each.kind is Kind.FAIL and value in revision_of:
                problems.append(f"{value} took effect, but its caller was told that it failed")
        problems += [
            f"{value} was never written" for value in revision_of if value not in increments
        ]
        return problems + self._check_reads(history)

    def _check_reads(self, history: History) -> list[str]:
        """A read counts at least what was acknowledged before it began."""
        problems: list[str] = []
        acknowledged, at_start, begun = 0, {}, 0
        for event in history.events:
            if event.workload != self.name:
                continue
            if event.function == "increment":
                acknowledged += event.kind is Kind.OK
                begun += event.kind is Kind.INVOKE
            elif event.function == "read" and event.kind is Kind.INVOKE:
                at_start[event.process] = acknowledged
            elif event.kind is Kind.OK and event.function == "read":
                problems += _impossible(event, range(at_start[event.process], begun + 1))
        return problems


def _impossible(event: Event, possible: range) -> list[str]:
    if event.value in possible:
        return []
    return [
        f"process {event.process} read {event.value}, where {possible.start} to"
        f" {possible.stop - 1} were possible"
    ]
