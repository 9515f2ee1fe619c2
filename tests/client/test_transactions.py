"""Transactions as functions, against the real state machine, with concurrent writes."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.backoff import Backoff
from raftkv.client.api.transactions import Attempts, Transaction
from raftkv.client.model.op import Operation, transaction_of
from raftkv.client.model.results import (
    RangeResult,
    TransactionResult,
    range_result,
    transaction_result,
)
from raftkv.client.model.when import Compare
from raftkv.client.sync.base import run_on_this_thread
from raftkv.client.sync.portal import shared_portal
from raftkv.client.sync.transactions import SyncTransaction
from raftkv.errors import RevisionCompacted, TransactionConflict
from tests.kv.harness import Driver, compact, delete, put


class DirectStore:
    """The state machine as a transaction's store; `interfere` runs before each step."""

    def __init__(self) -> None:
        self.db = Driver()
        self.interfere: Callable[[str], None] = lambda step: None
        self.commits = 0

    async def read(self, start: bytes, end: bytes, revision: int) -> RangeResult:
        await asyncio.sleep(0)
        self.interfere("read")
        result = self.db.range(start, end or start + b"\x00", revision=revision)
        if result.failure.reason == "REVISION_COMPACTED":
            raise RevisionCompacted(result.failure.message)
        return range_result(result)

    async def commit(
        self, compare: Sequence[Compare], success: Sequence[Operation]
    ) -> TransactionResult:
        await asyncio.sleep(0)
        self.interfere("commit")
        self.commits += 1
        result = self.db.transact(transaction_of(compare, success, ()))
        assert not result.HasField("failure"), result.failure
        return transaction_result(result)


@pytest.fixture
def store() -> DirectStore:
    return DirectStore()


async def run(store: DirectStore, function, left_s: Callable[[], float] = lambda: 60.0):  # type: ignore[no-untyped-def]
    backoff = Backoff(random.Random(1), 0.01, 0.25)
    return await Attempts(store, backoff, left_s).run(function)


def once(action: Callable[[], object], at: str) -> Callable[[str], None]:
    """Interfere at the first step of this kind only."""
    todo = [action]

    def interfere(step: str) -> None:
        if step == at and todo:
            todo.pop()()

    return interfere


async def increment(tx: Transaction) -> int:
    number = int(await tx.get("n") or 0) + 1
    tx.put("n", str(number))
    return number


async def test_reads_and_writes_of_a_transaction_are_atomic(store: DirectStore) -> None:
    assert await run(store, increment) == 1
    assert store.db.value(b"n") == b"1"


async def test_a_transaction_runs_again_when_a_key_it_has_read_changes(store: DirectStore) -> None:
    store.interfere = once(lambda: store.db.do(put(b"n", b"41")), "commit")
    assert await run(store, increment) == 42
    assert store.commits == 2


@pytest.mark.parametrize("change", [put(b"p/new"), put(b"p/a", b"2"), delete(b"p/b")])
async def test_a_range_that_gained_lost_or_changed_a_key_conflicts(
    store: DirectStore, change: object
) -> None:
    store.db.do(put(b"p/a", b"1"))
    store.db.do(put(b"p/b", b"1"))
    store.interfere = once(lambda: store.db.do(change), "commit")  # type: ignore[arg-type]

    async def count(tx: Transaction) -> None:
        tx.put("count", str(len(await tx.prefix("p/"))))

    await run(store, count)
    assert store.commits == 2


async def test_a_key_that_was_deleted_and_made_again_conflicts(store: DirectStore) -> None:
    store.db.do(put(b"n", b"1"))

    def replace() -> None:
        store.db.do(delete(b"n"))
        store.db.do(put(b"n", b"1"))

    store.interfere = once(replace, "commit")
    await run(store, increment)
    assert store.commits == 2


async def test_writes_of_others_elsewhere_do_not_conflict(store: DirectStore) -> None:
    store.interfere = lambda step: store.db.do(put(b"elsewhere", b"x"))
    assert await run(store, increment) == 1
    assert store.commits == 1


async def test_all_reads_of_an_attempt_are_of_one_revision(store: DirectStore) -> None:
    store.db.do(put(b"a", b"1"))
    store.db.do(put(b"b", b"1"))

    def change_both(step: str) -> None:
        number = b"%d" % store.db.machine.revision
        store.db.do(put(b"a", number))
        store.db.do(put(b"b", number))

    store.interfere = change_both

    async def look(tx: Transaction) -> list[bytes | None]:
        return await asyncio.gather(tx.get("a"), tx.get("b"))

    a, b = await run(store, look)
    assert a == b
    assert store.commits == 0, "what only reads has nothing to commit"


async def test_a_transaction_alone_sees_its_own_writes(store: DirectStore) -> None:
    store.db.do(put(b"p/a", b"old"))
    store.db.do(put(b"p/b", b"old"))

    async def change(tx: Transaction) -> None:
        tx.put("p/a", "new")
        tx.delete("p/b")
        tx.put("p/c", "new")
        tx.put("q", "outside")
        assert await tx.get("p/a") == b"new"
        assert await tx.get("p/b") is None
        assert await tx.prefix("p/") == {b"p/a": b"new", b"p/c": b"new"}
        assert store.db.value(b"p/a") == b"old"

    await run(store, change)
    assert store.db.value(b"p/a") == b"new"
    assert store.db.value(b"p/b") is None


async def test_a_function_that_raises_changes_nothing(store: DirectStore) -> None:
    async def fail(tx: Transaction) -> None:
        tx.put("n", "1")
        raise LookupError("no")

    with pytest.raises(LookupError):
        await run(store, fail)
    assert store.db.value(b"n") is None


async def test_a_transaction_that_keeps_conflicting_fails_in_time_with_the_reason(
    store: DirectStore,
) -> None:
    left = iter([1.0, 1.0, 0.0])
    store.interfere = lambda step: store.db.do(put(b"n", b"7"))
    with pytest.raises(TransactionConflict) as given_up:
        await run(store, increment, lambda: next(left))
    assert given_up.value.facts["attempts"] == "3"


async def test_a_compaction_restarts_a_transaction(store: DirectStore) -> None:
    store.db.do(put(b"a", b"1"))
    reads = []

    def compact_once(step: str) -> None:
        reads.append(step)
        if len(reads) == 2:
            store.db.do(put(b"b", b"2"))
            store.db.do(compact(store.db.machine.revision))

    store.interfere = compact_once

    async def look(tx: Transaction) -> tuple[bytes | None, bytes | None]:
        return await tx.get("a"), await tx.get("b")

    assert await run(store, look) == (b"1", b"2")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=6))
def test_concurrent_transfers_keep_the_total(pairs: list[tuple[int, int]]) -> None:
    store = DirectStore()
    for account in range(3):
        store.db.do(put(b"%d" % account, b"10"))

    def transfer(source: int, target: int):  # type: ignore[no-untyped-def]
        async def move(tx: Transaction) -> None:
            left = int(await tx.get(str(source)) or 0) - 1
            tx.put(str(source), str(left))
            tx.put(str(target), str(int(await tx.get(str(target)) or 0) + 1))

        return move

    async def everything() -> None:
        await asyncio.gather(*(run(store, transfer(*pair)) for pair in pairs))

    asyncio.run(everything())
    assert sum(int(store.db.value(b"%d" % account) or 0) for account in range(3)) == 30
    moved = [sum((t == a) - (s == a) for s, t in pairs) for a in range(3)]
    assert [int(store.db.value(b"%d" % a) or 0) - 10 for a in range(3)] == moved


def test_the_synchronous_twin_runs_the_function_on_the_callers_thread() -> None:
    store, threads = DirectStore(), []
    store.interfere = once(lambda: store.db.do(put(b"n", b"41")), "commit")
    attempts = Attempts(store, Backoff(random.Random(1), 0.01, 0.25), lambda: 60.0)

    def increment_here(tx: SyncTransaction) -> int:
        threads.append(threading.current_thread())
        number = int(tx.get("n") or 0) + 1
        tx.put("n", str(number))
        return number

    assert run_on_this_thread(attempts, increment_here, shared_portal(), SyncTransaction) == 42
    assert threads == [threading.current_thread()] * 2
    assert store.db.value(b"n") == b"42"
