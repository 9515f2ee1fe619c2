"""What workloads ask of a client, and what they make of its answers."""

from __future__ import annotations

from random import Random

import pytest

from jepsen_lite.history import Event, History, Kind
from jepsen_lite.verdicts import Validity, overall
from jepsen_lite.workloads.append import Append, carried_out
from jepsen_lite.workloads.base import Workload
from jepsen_lite.workloads.catalogue import WORKLOADS


@pytest.mark.parametrize("name", WORKLOADS)
def test_operations_are_decided_by_the_seed(name: str) -> None:
    def drawn() -> list[object]:
        workload, rng = WORKLOADS[name](), Random(7)
        return [workload.next(rng, worker % 3) for worker in range(200)]

    assert drawn() == drawn()


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_goes_by_the_name_that_it_is_chosen_by(name: str) -> None:
    assert WORKLOADS[name]().name == name


def events(workload: Workload, *lines: tuple[Kind, str, str, object]) -> History:
    history = History()
    for time_ns, (kind, function, key, value) in enumerate(lines):
        history.append(Event(time_ns, 1, kind, workload.name, function, key, value))
    return history


LIES: dict[str, list[tuple[Kind, str, str, object]]] = {
    "register": [
        (Kind.INVOKE, "write", "register/0", "v1"),
        (Kind.FAIL, "write", "register/0", "v1"),
        (Kind.INVOKE, "read", "register/0", None),
        (Kind.OK, "read", "register/0", ["v1", 2]),
    ],
    "set": [
        (Kind.INVOKE, "add", "set/", 1),
        (Kind.OK, "add", "set/", 1),
        (Kind.INVOKE, "read", "set/", None),
        (Kind.OK, "read", "set/", []),
    ],
    "counter": [
        (Kind.INVOKE, "increment", "counter", "i1"),
        (Kind.OK, "increment", "counter", ["i1", 2]),
        (Kind.INVOKE, "trace", "counter", None),
        (Kind.OK, "trace", "counter", [[2, "i1", 3], [1, "i1", 2]]),
    ],
    "append": [
        (Kind.INVOKE, "txn", "append", [["append", "append/0", 1]]),
        (Kind.FAIL, "txn", "append", [["append", "append/0", 1]]),
        (Kind.INVOKE, "txn", "append", [["r", "append/0", None]]),
        (Kind.OK, "txn", "append", [["r", "append/0", [1]]]),
    ],
    "bank": [
        (Kind.INVOKE, "read", "bank", None),
        (Kind.OK, "read", "bank", {"bank/0": 10}),
    ],
}


@pytest.mark.parametrize("name", LIES)
def test_each_workload_has_a_checker_that_refuses_a_lie(name: str) -> None:
    workload = WORKLOADS[name]()
    assert overall(workload.check(events(workload, *LIES[name]))) is Validity.INVALID


def test_a_transaction_reads_its_own_appends() -> None:
    micro = [["r", "a", None], ["append", "a", 2], ["r", "a", None], ["append", "b", 3]]
    answer, written = carried_out(micro, {"a": [1], "b": None})
    assert answer == [["r", "a", [1]], ["append", "a", 2], ["r", "a", [1, 2]], ["append", "b", 3]]
    assert written == {"a": [1, 2], "b": [3]}


def test_the_last_transactions_read_every_list_that_was_used() -> None:
    workload, rng = Append(), Random(1)
    used = {key for _ in range(500) for _, key, _ in workload.next(rng, 0).value}
    assert {each.value[0][1] for each in workload.final()} == used
