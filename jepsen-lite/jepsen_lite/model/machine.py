"""The model itself: committed entries in, results and state out."""

from __future__ import annotations

from jepsen_lite.model import commands, ranges
from jepsen_lite.model.bounds import LEASE_END_ROWS, STAMP_JUMP_MAX_MS, Bounds
from jepsen_lite.model.budget import Budget
from jepsen_lite.model.keys import Draft
from jepsen_lite.model.memory import SessionMemory
from jepsen_lite.model.refusals import Refusal
from jepsen_lite.model.state import State
from raftkv.rpc.v1 import kv_pb2, log_pb2


class StateMachineModel:
    """Applies entries one after the other. `state` is the state after the last one."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.state = State(bounds or Bounds())

    def apply(self, index: int, term: int, kind: int, payload: bytes) -> list[kv_pb2.BatchResult]:
        """The results of the entry's submissions, in order."""
        state = self.state
        if index != state.index + 1:
            raise ValueError(f"entry {index} does not follow entry {state.index}")
        results = []
        if kind == log_pb2.ENTRY_KIND_COMMANDS:
            results = self._apply_batch(log_pb2.StampedBatch.FromString(payload))
        elif kind == log_pb2.ENTRY_KIND_VERSION:
            state.cluster_version = max(state.cluster_version, int.from_bytes(payload, "big"))
        if not state.is_bounded:
            state.idempotency_keys.remove_expired(state.time_ms, state.bounds.idempotency_removals)
        state.index, state.term = index, term
        return results

    def read(self, request: kv_pb2.Range) -> kv_pb2.Result:
        """The result of a read at the last applied entry."""
        keys = self.state.keys
        try:
            found = ranges.read(Draft(keys), request, Budget(self.state.bounds, bounded=True))
        except Refusal as refusal:
            return kv_pb2.Result(revision=keys.revision, failure=refusal.failure)
        return kv_pb2.Result(revision=keys.revision, range=found)

    def _apply_batch(self, stamped: log_pb2.StampedBatch) -> list[kv_pb2.BatchResult]:
        state = self.state
        stamp_ms = min(stamped.time_ms, state.time_ms + STAMP_JUMP_MAX_MS)
        state.leases.time_ms = max(state.time_ms, stamp_ms)
        if not state.is_bounded:
            for lease in state.leases.over():
                state.end_lease(lease, Budget(state.bounds, bounded=False))
        elif not stamped.submissions:
            self._upkeep()
        return [self._run_submission(submission) for submission in stamped.submissions]

    def _run_submission(self, submission: log_pb2.Submission) -> kv_pb2.BatchResult:
        """What the rights were when a node took the submission decides nothing: they hold now."""
        self.state.set_caller(submission.user)
        return self._run_batch(kv_pb2.CommandBatch.FromString(submission.commands))

    def _upkeep(self) -> None:
        """Remove leases that are over, each in a revision of its own, then idempotency keys. The
        lease with which the rows are used up still ends whole.
        """
        state = self.state
        rows_left = state.bounds.upkeep_rows
        budget = Budget(state.bounds, bounded=True)
        for lease in state.leases.over():
            deletions = budget.deletions
            if rows_left <= 0 or not state.end_lease(lease, budget):
                return
            rows_left -= LEASE_END_ROWS + budget.deletions - deletions
        state.idempotency_keys.remove_expired(state.time_ms, max(rows_left, 0))

    def _run_batch(self, batch: kv_pb2.CommandBatch) -> kv_pb2.BatchResult:
        state = self.state
        if not batch.session:
            return self._run_commands(batch)
        try:
            if not state.leases.is_alive(batch.session):
                raise Refusal("SESSION_EXPIRED")
            if not state.leases.is_open(batch.session):
                raise Refusal("PERMISSION_DENIED")
            first = state.sessions.remembered(batch)
            if first is not None:
                self._check_not_withheld(batch)
                return first
            state.sessions.check_usable(batch, bounded=state.is_bounded)
        except Refusal as refusal:
            return kv_pb2.BatchResult(failure=refusal.failure)
        sessions = state.sessions.known
        sessions.setdefault(batch.session, SessionMemory()).acknowledge(batch.acknowledged)
        result = self._run_commands(batch)
        # The batch may have ended its own session. A lease that it has granted again under the same
        # id is a new session, which knows this batch.
        if state.leases.is_alive(batch.session):
            sessions.setdefault(batch.session, SessionMemory()).results[batch.sequence] = result
        return result

    def _check_not_withheld(self, batch: kv_pb2.CommandBatch) -> None:
        """The caller may run all commands of the batch now, and so see its result."""
        for command in batch.commands:
            try:
                self.state.users.check_allowed(command)
            except Refusal as refusal:
                refusal.withheld = True
                raise

    def _run_commands(self, batch: kv_pb2.CommandBatch) -> kv_pb2.BatchResult:
        budget = Budget(self.state.bounds, bounded=self.state.is_bounded)
        result = kv_pb2.BatchResult()
        for command in batch.commands:
            result.results.append(commands.run(self.state, command, budget))
        return result
