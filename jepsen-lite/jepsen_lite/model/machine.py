"""The model itself: committed entries in, results and state out."""

from __future__ import annotations

from jepsen_lite.model import commands
from jepsen_lite.model.bounds import Bounds
from jepsen_lite.model.budget import Budget
from jepsen_lite.model.refusals import Refusal
from jepsen_lite.model.state import State
from raftkv.rpc.v1 import kv_pb2, log_pb2


class Model:
    """Applies entries one after the other. `state` is the state after the last one."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.state = State(bounds or Bounds())

    def apply(
        self, index: int, term: int, kind: log_pb2.EntryKind, payload: bytes
    ) -> list[kv_pb2.BatchResult]:
        """The results of the entry's submissions, in order."""
        state = self.state
        if index != state.index + 1:
            raise ValueError(f"entry {index} does not follow entry {state.index}")
        results = []
        if kind == log_pb2.ENTRY_KIND_COMMANDS:
            results = self._apply_batch(log_pb2.StampedBatch.FromString(payload))
        elif kind == log_pb2.ENTRY_KIND_VERSION:
            state.cluster_version = int.from_bytes(payload, "big")
        state.index, state.term = index, term
        return results

    def _apply_batch(self, stamped: log_pb2.StampedBatch) -> list[kv_pb2.BatchResult]:
        state = self.state
        state.leases.time_ms = max(state.time_ms, stamped.time_ms)
        if not stamped.submissions or not state.is_bounded:
            self._upkeep()
        return [
            self._run_batch(kv_pb2.CommandBatch.FromString(submission.commands))
            for submission in stamped.submissions
        ]

    def _upkeep(self) -> None:
        """Remove leases that are over, then idempotency keys: so many rows at most, but each lease
        with all of its keys.
        """
        state = self.state
        rows_left = state.bounds.upkeep_rows
        for lease in state.leases.over():
            if state.is_bounded and rows_left <= 0:
                return
            rows_left -= 1 + state.end_lease(lease)
        state.idempotency_keys.remove_expired(state.time_ms, rows_left)

    def _run_batch(self, batch: kv_pb2.CommandBatch) -> kv_pb2.BatchResult:
        state = self.state
        if not batch.session:
            return self._run_commands(batch)
        try:
            if not state.leases.is_alive(batch.session):
                raise Refusal("SESSION_EXPIRED")
            session = state.sessions.of(batch.session, bounded=state.is_bounded)
            session.acknowledge(batch.acknowledged)
            if batch.sequence in session.results:
                return session.results[batch.sequence]
            if batch.sequence <= session.acknowledged:
                raise Refusal("INVALID_REQUEST")
            if state.is_bounded:
                state.sessions.check_room(session)
        except Refusal as refusal:
            return kv_pb2.BatchResult(failure=refusal.failure)
        result = self._run_commands(batch)
        session.results[batch.sequence] = result
        return result

    def _run_commands(self, batch: kv_pb2.CommandBatch) -> kv_pb2.BatchResult:
        budget = Budget(self.state.bounds, bounded=self.state.is_bounded)
        result = kv_pb2.BatchResult()
        for command in batch.commands:
            budget.next_command()
            result.results.append(commands.run(self.state, command, budget))
        return result
