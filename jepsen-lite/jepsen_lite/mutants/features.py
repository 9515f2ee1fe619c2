"""Planted bugs in what is seldom used: options of commands, leases of keys, pages, read levels."""

from __future__ import annotations

import asyncio

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.errors import FencedOff
from raftkv.kv import idempotency, locks, transactions
from raftkv.kv.budget import Budget
from raftkv.kv.execution import Execution
from raftkv.kv.machine import StateMachine
from raftkv.kv.mvcc import Writer
from raftkv.kv.overlay import StateReader
from raftkv.kv.pace import Steps
from raftkv.kv.store import Family
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server.reads import ReadLevels
from raftkv.server.watch.filter import EncodedChange, WatchFilter
from raftkv.wire.ranges import exclusive_end


@mutant(
    "a compare of a range looks at its first key",
    "breadth",
    caught_by="^transactions: .* returned|differs from the model",
)
def compare_of_a_range_sees_one_key() -> list[Patch]:
    """A condition over a range holds if it holds for the first key of the range."""

    def holds(view: StateReader, compare: kv_pb2.Compare, budget: Budget) -> Steps[bool]:
        yield from ()
        end = exclusive_end(compare.key, compare.range_end)
        first = next(iter(view.scan(Family.CURRENT, compare.key, end)), (b"", None))
        return transactions._record_holds(compare, first[1])

    return [(transactions, "_range_holds", holds)]


@mutant(
    "pages of a range are of different revisions",
    "breadth",
    caught_by="^(ranges|transactions): .*read",
)
def pages_drift_apart() -> list[Patch]:
    """Each page of a long range shows the state of the moment at which it is read."""
    read = StateMachine.read

    def read_now(self: StateMachine, request: kv_pb2.Range) -> Steps[kv_pb2.Result]:
        if request.page:
            request = kv_pb2.Range.FromString(request.SerializeToString())
            request.revision = 0
        return read(self, request)

    return [(StateMachine, "read", read_now)]


@mutant(
    "an idempotency key stands for any command",
    "breadth",
    caught_by="^idempotency: .* returned|differs from the model",
)
def any_command_has_the_key() -> list[Patch]:
    """The store compares the key alone, and answers a command with the result of another one."""

    def fingerprint(_: kv_pb2.Command) -> bytes:
        return bytes(32)

    return [(idempotency, "fingerprint", fingerprint)]


@mutant(
    "an idempotency key is forgotten before its time",
    "breadth",
    caught_by="^idempotency: .* but the key is kept for|differs from the model",
)
def keys_are_forgotten_early() -> list[Patch]:
    """The upkeep of old keys counts their time in another unit than their owners do."""
    remember = idempotency.IdempotencyKeys.remember

    def soon(
        self: idempotency.IdempotencyKeys,
        command: kv_pb2.Command,
        result: bytes,
        size_bytes: int | None,
    ) -> None:
        ttl_ms = command.idempotency_ttl_ms
        command.idempotency_ttl_ms = ttl_ms // 1_000 + 1
        remember(self, command, result, size_bytes)
        command.idempotency_ttl_ms = ttl_ms

    return [(idempotency.IdempotencyKeys, "remember", soon)]


@mutant(
    "a key goes with a lease that it has left",
    "breadth",
    caught_by="^leased-keys: |differs from the model",
)
def detached_keys_go_with_their_lease() -> list[Patch]:
    """A plain put leaves the key on the list of the lease that it was attached to."""
    move = Writer._move

    def stay(self: Writer, key: bytes, old_lease: int, lease: int) -> None:
        if lease or self.get(key) is None:
            move(self, key, old_lease, lease)

    return [(Writer, "_move", stay)]


@mutant(
    "one that waits passes for the holder",
    "breadth",
    caught_by="^waiter-fence: .* was accepted|differs from the model",
)
def waiters_pass_the_fence() -> list[Patch]:
    """A fence asks whether the token is in the queue, and not whether it is the first one."""

    def check_fence(execution: Execution, fence: kv_pb2.Fence) -> Steps[None]:
        yield from ()
        if not locks.has_entry(execution.writer.overlay, fence.name, fence.token):
            raise FencedOff("the token is not in the queue", holder_token=0)

    return [(locks, "check_fence", check_fence)]


@mutant(
    "a watch of deletions shows puts",
    "breadth",
    caught_by="^wide-watch: .*filtering",
)
def watches_show_all_kinds() -> list[Patch]:
    """The kinds that a watcher does not ask for are delivered as well."""
    event_for = EncodedChange.event_for

    def event_of_any_kind(self: EncodedChange, watch_filter: WatchFilter) -> bytes | None:
        return event_for(
            self, WatchFilter(watch_filter.key, watch_filter.end, watch_filter.prev_kv, True, True)
        )

    return [(EncodedChange, "event_for", event_of_any_kind)]


@mutant(
    "a bound of staleness is not enforced",
    "breadth",
    caught_by="^staleness: .* more than the bound",
)
def bounds_of_staleness_hold_nobody_back() -> list[Patch]:
    """A node that is cut off answers a bounded read from what it has."""

    def allow(_reads: api_pb2.ReadBatch, _staleness_ms: int) -> bool:
        return True

    def is_within(self: ReadLevels, _bound_ms: int) -> bool:
        return self._node.fresh_as_of_s is not None

    return [(ReadLevels, "allow", staticmethod(allow)), (ReadLevels, "_is_within", is_within)]


@mutant(
    "a session goes back at another node",
    "breadth",
    caught_by="^session: (read your writes|monotonic reads)",
    seeds=range(23, 29),
)
def sessions_end_at_a_node() -> list[Patch]:
    """A node answers a session that has seen more at another node, without catching up."""
    barrier = ReadLevels.barrier

    def at_once(
        self: ReadLevels, reads: api_pb2.ReadBatch, deadline: float
    ) -> asyncio.Future[None] | None:
        if reads.level == api_pb2.READ_LEVEL_SESSION:
            return None
        return barrier(self, reads, deadline)

    return [(ReadLevels, "barrier", at_once)]


MUTANTS = (
    compare_of_a_range_sees_one_key,
    pages_drift_apart,
    any_command_has_the_key,
    keys_are_forgotten_early,
    detached_keys_go_with_their_lease,
    waiters_pass_the_fence,
    watches_show_all_kinds,
    bounds_of_staleness_hold_nobody_back,
    sessions_end_at_a_node,
)
