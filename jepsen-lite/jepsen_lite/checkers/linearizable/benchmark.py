"""The time that the linearizability checker takes, measured by running this module.

Makes a legal history of registers, judges it, hides one stale read in it and judges it again.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from dataclasses import replace
from random import Random

from jepsen_lite.checkers.linearizable import register
from jepsen_lite.checkers.linearizable.processes import KeyProcesses, MapKeys
from jepsen_lite.history import Event, Kind, Operation

_WORKLOAD = "register"


def simulated(
    rng: Random,
    operations: int,
    keys: int,
    clients: int,
    unknown_share: float,
    values: int | None = None,
) -> list[Operation]:
    """What clients see of registers whose operations take effect at one moment of their time.

    With `values` there are so many of them, written again and again; else each is written once.
    """
    state: dict[str, str | None] = {}
    made: list[Operation] = []
    # Each client begins, then takes effect, then ends, then begins again.
    free = [(rng.randrange(1_000), client) for client in range(clients)]
    heapq.heapify(free)
    effects: list[tuple[int, int, Event, int]] = []
    next_process = clients
    while len(made) < operations:
        if effects and effects[0][0] <= free[0][0]:
            moment, number, invocation, ends = heapq.heappop(effects)
            made[number] = _answered(made[number], _apply(state, invocation), ends)
            continue
        now, process = heapq.heappop(free)
        key = f"register/{rng.randrange(keys)}"
        new = f"v{len(made) if values is None else rng.randrange(values)}"
        function, value = _asked(rng, state.get(key), new)
        invocation = Event(now, process, Kind.INVOKE, _WORKLOAD, function, key, value)
        moment, ends = now + rng.randrange(1, 900), now + 1_000 + rng.randrange(500)
        if rng.random() < unknown_share:
            lost = replace(invocation, time_ns=ends, kind=Kind.INFO)
            made.append(Operation(invocation, lost))
            process, next_process = next_process, next_process + 1
            if rng.random() < 0.5:
                late = now + rng.randrange(1, 20_000)
                heapq.heappush(effects, (late, len(made) - 1, invocation, -1))
        else:
            made.append(Operation(invocation, None))
            heapq.heappush(effects, (moment, len(made) - 1, invocation, ends))
        heapq.heappush(free, (ends + rng.randrange(1, 300), process))
    return made


def _asked(rng: Random, held: str | None, new: str) -> tuple[str, object]:
    choice = rng.random()
    if choice < 0.4:
        return "read", None
    if choice < 0.75:
        return "write", new
    return "cas", [held, new]


def _apply(state: dict[str, str | None], invocation: Event) -> object:
    held = state.get(invocation.key)
    if invocation.function == "read":
        return [held]
    if invocation.function == "write":
        state[invocation.key] = invocation.value
        return invocation.value
    expected, new = invocation.value
    if held == expected:
        state[invocation.key] = new
        return [True, new]
    return [False, held]


def _answered(operation: Operation, answer: object, ends: int) -> Operation:
    if ends < 0:
        return operation
    return replace(
        operation,
        completion=replace(operation.invocation, time_ns=ends, kind=Kind.OK, value=answer),
    )


def with_stale_read(operations: list[Operation]) -> list[Operation]:
    """The last read returns what the first one of its key returned."""
    reads = [
        number
        for number, each in enumerate(operations)
        if each.invocation.function == "read" and each.kind is Kind.OK
    ]
    last = operations[reads[-1]]
    first = next(
        operations[number]
        for number in reads
        if operations[number].invocation.key == last.invocation.key
    )
    assert last.completion is not None
    assert first.completion is not None
    stale = replace(last, completion=replace(last.completion, value=first.completion.value))
    return [*operations[: reads[-1]], stale, *operations[reads[-1] + 1 :]]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--operations", type=int, default=100_000)
    options.add_argument("--keys", type=int, default=100)
    options.add_argument("--clients", type=int, default=10)
    options.add_argument("--unknown", type=float, default=0.01)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--values", type=int, help="so many, written again and again")
    options.add_argument("--processes", type=int, default=1)
    chosen = options.parse_args()
    history = simulated(
        Random(chosen.seed),
        chosen.operations,
        chosen.keys,
        chosen.clients,
        chosen.unknown,
        chosen.values,
    )
    with KeyProcesses(chosen.processes) as processes:
        _measure(history, processes.map)
    return 0


def _measure(history: list[Operation], map_keys: MapKeys) -> None:
    for what, judged in (("legal", history), ("stale read", with_stale_read(history))):
        began, began_cpu = time.perf_counter(), time.process_time()
        found = register.check(judged, map_keys=map_keys)
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        print(f"{what}: {found.validity.value} in {wall_s:.2f} s, {cpu_s:.2f} s of CPU time here")
        for each in found.problems:
            print(f"  {each.text}")


if __name__ == "__main__":
    sys.exit(main())
