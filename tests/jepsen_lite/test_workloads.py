"""The operations of workloads on a client, and their results and checks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import cast

import pytest

from jepsen_lite.clients.protocol import (
    Change,
    CompactedError,
    Conflict,
    KeyValue,
    KvClient,
    OperationError,
    PrefixRead,
)
from jepsen_lite.clients.raftkv_client import RaftkvClient
from jepsen_lite.history import Event, History, Kind
from jepsen_lite.judge import judge
from jepsen_lite.options import RunOptions
from jepsen_lite.recorder import Recorder
from jepsen_lite.sim.plan import draw_plan
from jepsen_lite.sim.run import run
from jepsen_lite.verdicts import Finding, Validity, overall
from jepsen_lite.workloads import rw_register
from jepsen_lite.workloads.append import AppendWorkload, carried_out
from jepsen_lite.workloads.bank import BankWorkload
from jepsen_lite.workloads.base import Invocation, Workload
from jepsen_lite.workloads.catalogue import (
    ANOTHER_MAY_PREVENT,
    HAS_LARGE_ROWS,
    NEEDS_QUICK_ANSWERS,
    NEEDS_STEADY_CLOCKS,
    NEEDS_USERS,
    OF_ONE_USER,
    READ_WITHOUT_MAJORITY,
    WORKLOADS,
)
from jepsen_lite.workloads.register import RegisterWorkload
from jepsen_lite.workloads.rights import RightsWorkload
from jepsen_lite.workloads.sets import SetWorkload
from jepsen_lite.workloads.watches import WatchWorkload
from tests.jepsen_lite.idle_database import Idle, run_on_virtual_time


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_seed_decides_the_operations_of_a_workload(name: str) -> None:
    def drawn() -> list[object]:
        workload, rng = WORKLOADS[name](), Random(7)
        if isinstance(workload, RightsWorkload):
            workload.users = {worker: f"client-{worker}" for worker in range(3)}
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
    "queue": [
        (Kind.INVOKE, "add", "queue/", 1),
        (Kind.OK, "add", "queue/", None),
        (Kind.INVOKE, "read", "queue/", None),
        (Kind.OK, "read", "queue/", []),
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
    "rw-register": [
        (Kind.INVOKE, "txn", "rw-register", [["w", "rw-register/0", 1]]),
        (Kind.FAIL, "txn", "rw-register", [["w", "rw-register/0", 1]]),
        (Kind.INVOKE, "txn", "rw-register", [["r", "rw-register/0", None]]),
        (Kind.OK, "txn", "rw-register", [["r", "rw-register/0", 1]]),
    ],
    "transactions": [
        (Kind.INVOKE, "txn", "t1", {"compare": [], "success": [["put", "t1", ""]], "failure": []}),
        (Kind.OK, "txn", "t1", [2, [True, [None]]]),
        (Kind.INVOKE, "log", "", None),
        (Kind.OK, "log", "", []),
    ],
    "ranges": [
        (Kind.INVOKE, "fill", "ranges/", [1, 3]),
        (Kind.OK, "fill", "ranges/", 2),
        (Kind.INVOKE, "read", "ranges/", [1, 3, 0, 0]),
        (Kind.OK, "read", "ranges/", [2, [[1, 2]]]),
    ],
    "idempotency": [
        (Kind.INVOKE, "put", "idempotency/1", ["first", 1_000]),
        (Kind.OK, "put", "idempotency/1", "reused"),
        (Kind.INVOKE, "versions", "idempotency/", None),
        (Kind.OK, "versions", "idempotency/", {}),
    ],
    "leased-keys": [
        (Kind.INVOKE, "put", "leased-keys/1", ["v1", None]),
        (Kind.OK, "put", "leased-keys/1", 2),
        (Kind.INVOKE, "look", "leased-keys/", None),
        (Kind.OK, "look", "leased-keys/", [2, []]),
    ],
    "waiter-fence": [
        (Kind.INVOKE, "acquire", "waiters/lock", None),
        (Kind.OK, "acquire", "waiters/lock", {"token": 5}),
        (Kind.INVOKE, "write", "waiters/resource", [6, 1]),
        (Kind.OK, "write", "waiters/resource", [6, 1]),
    ],
    "bank": [
        (Kind.INVOKE, "read", "bank", None),
        (Kind.OK, "read", "bank", {"bank/0": 10}),
    ],
}


@pytest.mark.parametrize("name", LIES)
def test_each_workload_has_a_checker_that_refuses_a_false_answer(name: str) -> None:
    workload = WORKLOADS[name]()
    assert overall(workload.check(events(workload, *LIES[name]))) is Validity.INVALID


def test_a_transaction_reads_its_own_appends() -> None:
    micro = [["r", "a", None], ["append", "a", 2], ["r", "a", None], ["append", "b", 3]]
    answer, written = carried_out(micro, {"a": [1], "b": None})
    assert answer == [["r", "a", [1]], ["append", "a", 2], ["r", "a", [1, 2]], ["append", "b", 3]]
    assert written == {"a": [1, 2], "b": [3]}


def test_a_transaction_on_registers_reads_its_own_writes() -> None:
    micro = [["r", "a", None], ["w", "a", 2], ["r", "a", None], ["w", "b", 3], ["r", "c", None]]
    answer, written = rw_register.carried_out(micro, {"a": b"1"})
    assert [value for _, _, value in answer] == [1, 2, 2, 3, None]
    assert written == {"a": "2", "b": "3"}


def test_the_last_transactions_read_every_list_that_was_used() -> None:
    workload, rng = AppendWorkload(), Random(1)
    used = {key for _ in range(500) for _, key, _ in workload.next(rng, 0).value}
    assert {each.value[0][1] for each in workload.final()} == used


class Store:
    """As much of a store as the workloads need. `meanwhile` is done before each transaction."""

    def __init__(
        self, compacted: int = 0, meanwhile: Callable[[Store], None] | None = None
    ) -> None:
        self.revision = 1
        self.kvs: dict[str, list[KeyValue]] = {}
        self._compacted = compacted
        self._meanwhile = meanwhile

    def write(self, key: str, value: str) -> None:
        versions = self.kvs.setdefault(key, [])
        first = versions[0].create_revision if versions else self.revision
        versions.append(KeyValue(key, value, first, self.revision, len(versions) + 1))

    def current(self, key: str) -> KeyValue | None:
        return self.kvs[key][-1] if key in self.kvs else None

    async def put(self, key: str, value: str = "", *, timeout_s: float) -> int:
        self.revision += 1
        self.write(key, value)
        return self.revision

    async def get(self, key: str, *, revision: int = 0, timeout_s: float) -> KeyValue | None:
        if 0 < revision < self._compacted:
            raise CompactedError(f"compacted up to {self._compacted}")
        versions = self.kvs.get(key, [])
        found = [kv for kv in versions if not revision or kv.mod_revision <= revision]
        return found[-1] if found else None

    async def read_prefix(self, prefix: str, *, keys_only: bool, timeout_s: float) -> PrefixRead:
        found = [self.kvs[key][-1] for key in sorted(self.kvs) if key.startswith(prefix)]
        return PrefixRead(self.revision, found)

    async def write_many(
        self,
        values: Mapping[str, str],
        *,
        timeout_s: float,
        unchanged: Mapping[str, KeyValue | None] | None = None,
    ) -> int:
        await asyncio.sleep(0.1)
        if self._meanwhile is not None:
            self._meanwhile(self)
        for key, seen in (unchanged or {}).items():
            found = self.current(key)
            if (found.mod_revision if found else 0) != (seen.mod_revision if seen else 0):
                raise Conflict("changed")
        self.revision += 1
        for key, value in values.items():
            self.write(key, value)
        return self.revision


async def done(
    workload: Workload, store: Store, *asked: Invocation, timeout_s: float = 1.0
) -> History:
    """What a lone worker sees that is never refused for long."""
    history, clock = History(), itertools.count()
    recorder = Recorder(history, lambda: next(clock))
    for each in asked:
        await recorder.perform(cast(KvClient, store), 0, workload, each, timeout_s)
    return history


def outcomes_of(workload: Workload, history: History) -> Finding:
    (found,) = (each for each in workload.check(history) if each.checker == "outcomes")
    return found


def gave_up(workload: Workload, function: str, key: str, value: object) -> list[Event]:
    """Before everything else."""
    asked = Event(-2, 77, Kind.INVOKE, workload.name, function, key, value)
    return [asked, replace(asked, time_ns=-1, kind=Kind.INFO)]


@pytest.mark.parametrize("in_the_store", [True, False])
async def test_a_register_settles_its_writes_by_the_history_of_the_store(
    in_the_store: bool,
) -> None:
    workload, store = RegisterWorkload(versioned=True), Store()
    key = workload.next(Random(0), 0).key
    if in_the_store:
        await store.put(key, "v0", timeout_s=1)
    asked = [Invocation("write", key, "v1"), Invocation("read", key), *workload.histories()]
    history = await done(workload, store, *asked)
    history.events[:0] = gave_up(workload, "write", key, "v0")
    assert overall(workload.check(history)) is Validity.VALID
    statistics = outcomes_of(workload, history).statistics
    assert statistics["happened"] == in_the_store
    assert statistics["did_not_happen"] == (not in_the_store)


async def test_a_register_whose_history_was_compacted_settles_nothing() -> None:
    workload, store = RegisterWorkload(versioned=True), Store(compacted=3)
    key = workload.next(Random(0), 0).key
    await store.put(key, "v0", timeout_s=1)
    asked = [Invocation("write", key, "v1"), Invocation("write", key, "v2"), *workload.histories()]
    history = await done(workload, store, *asked)
    history.events[:0] = gave_up(workload, "write", key, "v0")
    assert history.events[-1].value is not None
    assert overall(workload.check(history)) is Validity.VALID
    statistics = outcomes_of(workload, history).statistics
    assert statistics["stayed_unknown"] == 1
    assert "compacted up to 3" in statistics["because"]


async def test_a_set_settles_its_adds_by_one_read_of_all() -> None:
    workload, store = SetWorkload(), Store(compacted=100)
    await store.put("set/000008", timeout_s=1)
    asked = [Invocation("add", "set/", 1), *workload.final(), *workload.histories()]
    history = await done(workload, store, *asked)
    for element in (8, 9):
        history.events[:0] = gave_up(workload, "add", "set/", element)
    assert overall(workload.check(history)) is Validity.VALID
    statistics = outcomes_of(workload, history).statistics
    assert (statistics["happened"], statistics["did_not_happen"]) == (1, 1)


def test_a_simulated_run_leaves_no_outcome_unknown() -> None:
    findings = {each.checker: each for each in run(draw_plan(4, 10.0)).findings}
    statistics = findings["set: outcomes"].statistics
    assert statistics["unknown"] > 0
    assert statistics["stayed_unknown"] == 0


class Deliveries:
    """A watch that delivers `revisions`, one after the other, and then nothing more."""

    def __init__(self, from_revision: int, oldest_left: int, revisions: Iterable[int]) -> None:
        self.revision = from_revision - 1
        self._oldest_left = oldest_left
        self._revisions = [each for each in revisions if each >= from_revision]

    async def batches(self) -> AsyncIterator[list[Change]]:
        if self.revision + 1 < self._oldest_left:
            raise CompactedError("gone", self._oldest_left)
        for revision in self._revisions:
            await asyncio.sleep(1.0)
            self.revision = revision
            yield [Change(revision, "watch/0", "v", None, created=True)]
        await asyncio.sleep(100.0)

    async def close(self) -> None: ...


class Watched(Store):
    """Its watches deliver every revision from the oldest one left up to `delivered_up_to`."""

    def __init__(self, delivered_up_to: int, oldest_left: int = 0) -> None:
        super().__init__()
        self._delivered = range(2, delivered_up_to + 1)
        self._oldest_left = oldest_left

    def watch(
        self, prefix: str, from_revision: int, *, kinds: Sequence[str], progress: bool
    ) -> Deliveries:
        return Deliveries(from_revision, self._oldest_left, self._delivered)

    async def delete(self, key: str, *, timeout_s: float) -> tuple[int, bool]:
        there = self.kvs.pop(key, None) is not None
        self.revision += there
        return self.revision, there


CHANGES = [
    Invocation("put", "watch/0", "v1"),
    Invocation("delete", "watch/0"),
    Invocation("delete", "watch/0"),
    Invocation("put-both", "watch/", ["watch/1", "watch/2", 2]),
]


async def test_a_writer_of_watched_keys_records_its_revision() -> None:
    history = await done(WatchWorkload(), Watched(0), *CHANGES)
    assert [each.value for each in history.events if each.kind is Kind.OK] == [
        {"revision": 2, "changes": {"watch/0": "v1"}},
        {"revision": 3, "changes": {"watch/0": None}},
        {"revision": 3, "changes": {}},
        {"revision": 4, "changes": {"watch/1": "v2", "watch/2": "v2"}},
    ]


async def test_the_last_watch_goes_on_until_it_has_observed_all_acknowledged_changes() -> None:
    workload, store = WatchWorkload(), Watched(delivered_up_to=9)
    writes = [Invocation("put", "watch/0", f"v{number}") for number in range(6)]
    await done(workload, store, *writes)
    history = await done(workload, store, *workload.final(), timeout_s=50.0)
    assert history.events[-1].kind is Kind.OK
    assert history.events[-1].value[-1] == {"revision": 7, "events": []}


async def test_a_last_watch_that_misses_acknowledged_changes_fails() -> None:
    workload, store = WatchWorkload(), Watched(delivered_up_to=3)
    await done(workload, store, *CHANGES)
    history = await done(workload, store, *workload.final(), timeout_s=50.0)
    assert (history.events[-1].kind, history.events[-1].error) == (Kind.FAIL, "DEADLINE_EXCEEDED")


async def test_the_last_watch_of_a_compacted_history_begins_at_the_oldest_revision_left() -> None:
    workload, store = WatchWorkload(), Watched(delivered_up_to=4, oldest_left=3)
    await done(workload, store, *CHANGES)
    history = await done(workload, store, *workload.final(), timeout_s=50.0)
    batches = history.events[-1].value
    assert [each["revision"] for each in batches] == [0, 2, 3, 4, 4]
    assert [each for each in batches if each.get("compacted")] == [batches[1]]


async def test_a_transfer_that_lost_a_race_is_retried() -> None:
    rivals = [Invocation("transfer", "bank", ["bank/1", "bank/2", 3])]

    def rival(store: Store) -> None:
        if rivals:
            rivals.pop()
            store.revision += 1
            store.write("bank/1", "7")
            store.write("bank/2", "13")

    workload, store = BankWorkload(), Store(meanwhile=rival)
    history = await done(workload, store, Invocation("transfer", "bank", ["bank/0", "bank/1", 4]))
    assert history.events[-1].kind is Kind.OK
    balances = {key: int(kvs[-1].value) for key, kvs in store.kvs.items()}
    assert balances == {"bank/0": 6, "bank/1": 11, "bank/2": 13}


async def test_a_transfer_whose_accounts_change_again_and_again_has_not_happened() -> None:
    def rival(store: Store) -> None:
        store.revision += 1
        store.write("bank/1", "10")

    workload, store = BankWorkload(), Store(meanwhile=rival)
    history = await done(workload, store, Invocation("transfer", "bank", ["bank/0", "bank/1", 4]))
    assert (history.events[-1].kind, history.events[-1].error) == (Kind.FAIL, "NOT_DONE")


async def test_an_account_is_never_overdrawn_and_an_empty_one_refuses_no_transfer() -> None:
    workload, store = BankWorkload(), Store()
    moves = [Invocation("transfer", "bank", ["bank/0", "bank/1", 4])] * 4
    history = await done(workload, store, *moves)
    moved = [each.value[2] for each in history.events if each.kind is Kind.OK]
    assert moved == [4, 4, 2, 0]


def test_a_bank_without_isolation_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    write_many = RaftkvClient.write_many

    async def write_anyway(
        self: RaftkvClient, values: Mapping[str, str], *, timeout_s: float, unchanged: object
    ) -> int:
        return await write_many(self, values, timeout_s=timeout_s)

    monkeypatch.setattr(RaftkvClient, "write_many", write_anyway)
    plan = replace(draw_plan(2, 10.0), workloads=("bank",))
    assert any("in all where 60 must be" in problem for problem in run(plan).problems)


class OneStore(Idle):
    """A cluster that is never broken, whose answers are lost now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Losing()

    async def connect(self, node: str = "") -> KvClient:
        return cast(KvClient, self.store)


class Losing(Store):
    """Every tenth put gets no answer; one half of these are done."""

    puts = 0

    async def put(self, key: str, value: str = "", *, timeout_s: float) -> int:
        self.puts += 1
        if self.puts % 20 == 10:
            raise OperationError("the request was lost", reason="LOST", kind=Kind.INFO)
        revision = await super().put(key, value, timeout_s=timeout_s)
        if self.puts % 20 == 0:
            raise OperationError("the answer was lost", reason="LOST", kind=Kind.INFO)
        return revision

    async def close(self) -> None: ...


@pytest.mark.filterwarnings("ignore:delta is less than resolution")
async def test_a_real_run_reads_the_history_of_the_store_after_all_other_operations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = RunOptions("one-store", ("set",), (), 5.0, 1, 4, 20.0, 1)
    directory = await run_on_virtual_time(options, OneStore(), tmp_path, monkeypatch)
    last = directory.history().events[-1]
    assert (last.function, last.kind) == ("history", Kind.OK)
    statistics = {each.checker: each for each in judge(directory)}["set: outcomes"].statistics
    assert statistics["happened"] > 0 < statistics["did_not_happen"]
    assert statistics["stayed_unknown"] == 0


def test_properties_are_of_workloads_that_exist() -> None:
    needs = NEEDS_QUICK_ANSWERS | NEEDS_STEADY_CLOCKS | NEEDS_USERS | OF_ONE_USER
    assert ANOTHER_MAY_PREVENT | HAS_LARGE_ROWS | READ_WITHOUT_MAJORITY | needs <= WORKLOADS.keys()
