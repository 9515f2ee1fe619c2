"""Observes reads: read indexes, leader leases, levels, and scans in several steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from jepsen_lite.sim.checks.invariants import Invariants
from jepsen_lite.sim.coverage.mark import Reach, read_at, read_behind
from jepsen_lite.sim.coverage.wraps import Wraps
from raftkv.kv.compaction import Compaction
from raftkv.kv.machine import StateMachine
from raftkv.node.driver import Driver
from raftkv.node.history_compaction import HistoryCompaction
from raftkv.node.read_barriers import Barriers, ReadBarriers
from raftkv.raft.raft import Raft
from raftkv.raft.read_index import ReadRequest
from raftkv.rpc.v1 import api_pb2
from raftkv.server.reads import CURRENT, ReadHandler, ReadLevels


def observe_read_indexes(wraps: Wraps, reach: Reach) -> None:
    """How a node finds an index that makes a read linearizable."""

    @wraps.around(Raft, "_start_read_round")
    def start_read_round(original: Callable[..., None], raft: Raft) -> None:
        if raft._rounds.waiting and not raft.committed_in_term:
            reach("a read index waits for the first commit of the term")
        original(raft)

    @wraps.around(Raft, "_answer_read")
    def answer_read(
        original: Callable[..., None], raft: Raft, request: ReadRequest, index: int
    ) -> None:
        if request.requester != raft.node_id:
            reach("a read index is answered to a follower")
        original(raft, request, index)

    @wraps.around(ReadBarriers, "open")
    def open_barriers(
        original: Callable[..., None], barriers: ReadBarriers, applied_index: int
    ) -> None:
        original(barriers, applied_index)
        if barriers._confirmed:
            reach("a confirmed read waits for the apply")

    @wraps.around(Barriers, "ask")
    def ask(original: Callable[..., None], barriers: Barriers, *args: Any) -> None:
        again = barriers.asked
        original(barriers, *args)
        if again:
            reach("a read index is asked for again")
        elif not barriers.asked:
            reach("a read finds no leader to ask")

    @wraps.around(ReadBarriers, "_expire")
    def expire(
        original: Callable[..., None], barriers: ReadBarriers, each: Barriers, now_s: float | None
    ) -> None:
        before = len(each.futures)
        original(barriers, each, now_s)
        if now_s is None and before:
            reach("a read fails without a leader")
        elif len(each.futures) < before:
            reach("a read is not confirmed in time")

    @wraps.around(Driver, "holds_lease")
    def holds_lease(original: Callable[..., bool], driver: Driver) -> bool:
        holds = original(driver)
        raft = driver._raft
        if holds:
            reach("a read trusts the leader's lease")
        elif raft.may_lease:
            reach("a leader's lease is over, and a read takes a round")
        elif raft._config.leader_lease and raft.leads:
            reach("a leader gives its lease up for a transfer")
        return holds


def observe_levels(wraps: Wraps, reach: Reach, invariants: Invariants) -> None:
    """Reads of each level: where they are answered, and from how old a state."""

    @wraps.around(ReadHandler, "_with_staleness")
    def with_staleness(
        original: Callable[..., Any], handler: ReadHandler, reads: api_pb2.ReadBatch, *args: Any
    ) -> Any:
        answer = original(handler, reads, *args)
        if answer is None:
            reach("an answer is too old for its bound, and the read goes on")
            return answer
        node: Any = handler._node
        reach(read_at(reads.level, leads=node.core.leads))
        behind = node.machine.applied_index < invariants.committed_index
        if behind and reads.level not in CURRENT:
            reach(read_behind(reads.level))
        return answer

    @wraps.around(ReadLevels, "_too_stale")
    def too_stale(original: Callable[..., Any], *args: Any) -> Any:
        reach("a bounded read is refused as too stale")
        return original(*args)

    @wraps.around(ReadLevels, "_freshen")
    async def freshen(original: Callable[..., Any], *args: Any) -> None:
        reach("a bounded read waits for a newer state")
        await original(*args)

    @wraps.around(ReadLevels, "_reach")
    async def reach_revision(original: Callable[..., Any], *args: Any) -> None:
        reach("a session read waits for its revision")
        await original(*args)


def observe_history(wraps: Wraps, reach: Reach) -> None:
    """Automatic compaction of the history."""

    @wraps.around(HistoryCompaction, "_propose")
    def propose(
        original: Callable[..., None],
        history: HistoryCompaction,
        revision: int,
        by: str,
        *rest: Any,
    ) -> None:
        reach(
            "the leader compacts history: its age"
            if by == "age"
            else "the leader compacts history: its size"
        )
        original(history, revision, by, *rest)

    @wraps.around(HistoryCompaction, "_allowed_revision")
    def allowed_revision(
        original: Callable[..., int], history: HistoryCompaction, due: int, now_s: float
    ) -> int:
        allowed = original(history, due, now_s)
        if allowed < due:
            reach("a compaction waits for what a member needs")
        return allowed


def observe_scans(wraps: Wraps, reach: Reach) -> None:
    """Reads that take several steps, and what happens between the steps."""
    under_way: Counter[Compaction] = Counter()

    @wraps.around(ReadHandler, "in_steps")
    async def in_steps(
        original: Callable[..., Any], handler: ReadHandler, steps_of: Any, deadline: float
    ) -> Any:
        began = 0

        def counted(machine: StateMachine) -> Any:
            nonlocal began
            began += 1
            if began > 1:
                reach("a scan starts again after a snapshot")
            return _followed(steps_of(machine), machine)

        return await original(handler, counted, deadline)

    def _followed(steps: Any, machine: StateMachine) -> Any:
        compaction, applied_index, count = machine._runner.compaction, machine.applied_index, 0
        under_way[compaction] += 1
        try:
            while True:
                try:
                    step = next(steps)
                except StopIteration as done:
                    return done.value
                count += 1
                reach("a scan takes several steps")
                yield step
                if machine.applied_index > applied_index:
                    reach("entries are applied between two steps of a scan")
        finally:
            under_way[compaction] -= 1

    @wraps.around(Compaction, "step")
    def step(original: Callable[..., None], compaction: Compaction, changes_max: int) -> None:
        before = compaction.under_way
        original(compaction, changes_max)
        if before:
            reach("a compaction removes versions")
            if compaction.under_way:
                reach("a compaction takes several entries")
            if under_way[compaction]:
                reach("a compaction removes versions beside a running scan")
