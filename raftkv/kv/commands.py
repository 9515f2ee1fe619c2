"""Runs the commands of a batch: dispatch, failures, idempotency keys; and upkeep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from raftkv.errors import InvalidRequest, Overloaded, RaftkvError, Refused
from raftkv.kv import locks, operations
from raftkv.kv.auth import AuthChange, read_rights
from raftkv.kv.budget import Budget
from raftkv.kv.compaction import Compaction
from raftkv.kv.execution import Execution
from raftkv.kv.idempotency import IdempotencyKeys
from raftkv.kv.leases import Leases, Principal
from raftkv.kv.limits import RESULT_BYTES_MAX, UPKEEP_ROWS_PER_ENTRY
from raftkv.kv.locks import QueueHeads
from raftkv.kv.meta import Meta
from raftkv.kv.mvcc import Writer
from raftkv.kv.overlay import Overlay
from raftkv.kv.pace import COMMAND_UNITS, Pace, Steps
from raftkv.kv.rights import withheld
from raftkv.kv.sessions import Sessions, remembered_bytes
from raftkv.kv.store import Family, StateStore
from raftkv.kv.transactions import run_transaction
from raftkv.rpc.v1 import auth_pb2, kv_pb2
from raftkv.versions import BOUNDED
from raftkv.wire.canonical import result_size_bytes
from raftkv.wire.failures import fill_failure

READ_AHEAD_KEYS: Final = 32
"""Keys whose records are read in one call. Read one by one, rows in tables cost more than all the
rest of an overwrite. More records in one call could be gigabytes."""

LEASE_END_ROWS: Final = 2
"""The rows that the end of a lease without keys counts for in upkeep."""


class CommandRunner:
    """Runs commands on an overlay, in steps. A command that fails has no effect."""

    def __init__(self, store: StateStore, overlay: Overlay, meta: Meta, pace: Pace) -> None:
        self._store = store
        self._meta = meta
        self._pace = pace
        self.leases = Leases(overlay, meta)
        self.queue_heads = QueueHeads()
        self.writer = Writer(overlay, meta.revision + 1, self.queue_heads, self.leases.sizes)
        self.sessions = Sessions(overlay)
        self.idempotency_keys = IdempotencyKeys(overlay, meta)
        self.compaction = Compaction(overlay, meta)
        self.rights = read_rights(overlay)
        self._checked = True
        """Whether the commands being run were checked against the rights as they are now."""

        self._execution = Execution(
            self.writer,
            self.queue_heads,
            self.leases.sizes,
            self.leases,
            meta,
            Budget(RESULT_BYTES_MAX, pace),
        )

    @property
    def bounded(self) -> bool:
        """Whether the cluster version bounds the work of commands."""
        return self._meta.cluster_version >= BOUNDED

    def begin_submission(self, user: int, auth_revision: int) -> None:
        """The next commands are those of this user, whose rights were checked at this revision."""
        rights = self.rights
        self._checked = not rights.enabled or auth_revision == rights.revision
        root = rights.enabled and rights.grants_of(user).root
        self.leases.principal = Principal(user, everything=root or not rights.enabled)
        self.idempotency_keys.user = user

    def refusal_of_batch(self, batch: kv_pb2.CommandBatch) -> RaftkvError | None:
        """Why the caller may not have the results of these commands; None if it is allowed."""
        if self._checked:
            return None
        refusals = map(self._refusal_of, batch.commands)
        return next((error for error in refusals if error is not None), None)

    def _refusal_of(self, command: kv_pb2.Command) -> RaftkvError | None:
        return self.rights.refusal_of_command(self.leases.principal.user, command)

    def run_batch(
        self, batch: kv_pb2.CommandBatch, answer: kv_pb2.BatchResult, budget: Budget
    ) -> Steps[None]:
        """Add one result per command to `answer`, in order. Each command sees the changes of the
        earlier ones.
        """
        execution = self._execution
        execution.budget = budget
        add = answer.results.add
        spend = self._pace.spend
        commands = batch.commands
        for first in range(0, len(commands), READ_AHEAD_KEYS):
            together = commands[first : first + READ_AHEAD_KEYS]
            if not budget.exhausted:
                self._read_ahead([key for command in together if (key := command.put.key)])
            for command in together:
                result = add()
                if not self._checked and (denied := self._refusal_of(command)) is not None:
                    self._deny(command, result, denied)
                elif command.idempotency_key:
                    yield from self._run_with_key(command, result, execution)
                elif command.fences or not self._put_fast(command.put, result, budget):
                    yield from self._run(command, result, execution)
                if spend(COMMAND_UNITS):
                    yield

    def _read_ahead(self, keys: list[bytes]) -> None:
        overlay = self.writer.overlay
        current, known = overlay.changes[Family.CURRENT], overlay.known
        # A key that occurs several times is read once.
        wanted = [key for key in dict.fromkeys(keys) if key not in current and key not in known]
        if len(wanted) > 1:
            records = self._store.get_many(Family.CURRENT, wanted)
            known.update(zip(wanted, records, strict=True))

    # ---- upkeep --------------------------------------------------------------------

    def end_expired_leases(self) -> Steps[None]:
        """End every expired lease, each in a revision of its own."""
        budget = Budget(RESULT_BYTES_MAX, self._pace, bounded=False)
        while (lease := self.leases.expired()) is not None:
            yield from self._end_lease(lease, budget)

    def run_upkeep(self) -> Steps[None]:
        """Remove some expired rows: leases with their keys, each lease in a revision of its own,
        then idempotency keys, then old versions.
        """
        rows_left = UPKEEP_ROWS_PER_ENTRY
        budget = Budget(RESULT_BYTES_MAX, self._pace)
        while rows_left > 0 and (lease := self.leases.expired()) is not None:
            deletions_left = budget.deletions_left
            if not (yield from self._end_lease(lease, budget)):
                return
            rows_left -= LEASE_END_ROWS + deletions_left - budget.deletions_left
        if rows_left > 0:
            rows_left -= self.idempotency_keys.remove_expired(rows_left)
        if rows_left > 0:
            self.compaction.step(rows_left)

    def upkeep_is_due(self, time_ms: int) -> bool:
        """Whether `run_upkeep` would remove anything at this cluster time."""
        deadlines = (self.leases.next_deadline_ms(), self.idempotency_keys.first_deadline_ms)
        return self.compaction.under_way or any(
            deadline_ms is not None and deadline_ms <= time_ms for deadline_ms in deadlines
        )

    def _end_lease(self, lease: int, budget: Budget) -> Steps[bool]:
        """End a lease in a revision of its own: delete its keys, as many as the budget allows.

        Returns whether all are deleted.
        """
        writer, meta = self.writer, self._meta
        writer.begin(meta.revision + 1)
        gone = yield from self.leases.end(lease, writer, budget)
        if gone:
            self.sessions.forget(lease)
        if writer.position:
            meta.revision = writer.revision
        return gone

    # ---- commands ------------------------------------------------------------------

    def _put_fast(self, put: kv_pb2.Put, result: kv_pb2.Result, budget: Budget) -> bool:
        """The fast path for a put without options, which most commands are.

        Returns False, with no effect, for any other command; its `put` field reads as an empty put.
        """
        key = put.key
        if not key or put.lease or put.prev_kv or put.ignore_value or put.ignore_lease:
            return False
        if budget.exhausted:
            return False
        writer, meta = self.writer, self._meta
        old = writer.get(key)
        if old is not None:
            size_bytes = len(old)
            if size_bytes > budget.replaced_left:
                return False  # `_run` fails with the reason
            budget.replaced_left -= size_bytes
        writer.revision = result.revision = revision = meta.revision + 1
        writer.position = 0
        writer.put(key, put.value, 0, old)
        meta.revision = revision
        return True

    def _run_with_key(
        self, command: kv_pb2.Command, result: kv_pb2.Result, execution: Execution
    ) -> Steps[None]:
        budget = execution.budget
        try:
            first = self.idempotency_keys.result(command)
            if first is not None:
                result.MergeFromString(first)
                # Not by the length of `first`, which depends on this node's protobuf library.
                budget.count_bytes(result_size_bytes(result))
                return
            if self.bounded:
                self.idempotency_keys.require_room()
        except (InvalidRequest, Refused, Overloaded) as error:
            self._fail(result, error)
            return
        bytes_left = budget.bytes_left
        yield from self._run(command, result, execution)
        if result.failure.outcome == kv_pb2.OUTCOME_SAFE_TO_RETRY:
            return  # a retry is to run the command, and not to be refused for what others had used
        read_bytes = bytes_left - budget.bytes_left
        self.idempotency_keys.remember(
            command,
            result.SerializeToString(deterministic=True),
            remembered_bytes((result,), read_bytes) if self.bounded else None,
        )

    def _deny(self, command: kv_pb2.Command, result: kv_pb2.Result, denied: RaftkvError) -> None:
        ran_before = command.idempotency_key and self.idempotency_keys.knows(command)
        self._fail(result, withheld(denied) if ran_before else denied)

    def _run(
        self, command: kv_pb2.Command, result: kv_pb2.Result, execution: Execution
    ) -> Steps[None]:
        writer, meta, budget = self.writer, self._meta, execution.budget
        writer.begin(meta.revision + 1)
        bytes_left = budget.bytes_left
        try:
            budget.begin_command()
            for fence in command.fences:
                yield from locks.check_fence(execution, fence)
                if self._pace.spend(COMMAND_UNITS):
                    yield
            yield from self._dispatch(command, result, execution)
        except (InvalidRequest, Refused, Overloaded) as error:
            budget.bytes_left = bytes_left
            self._fail(result, error)
            return
        if writer.position:
            meta.revision = writer.revision

    def _fail(self, result: kv_pb2.Result, error: RaftkvError) -> None:
        result.Clear()
        result.revision = self._meta.revision
        fill_failure(result.failure, error)

    def _dispatch(
        self, command: kv_pb2.Command, result: kv_pb2.Result, execution: Execution
    ) -> Steps[None]:
        leases, budget = self.leases, execution.budget
        result.revision = self._meta.revision
        match command.WhichOneof("command"):
            case "put":
                operations.put(execution, command.put, result)
            case "delete_range":
                yield from operations.delete_range(execution, command.delete_range, result)
            case "transaction":
                yield from run_transaction(execution, command.transaction, result)
            case "compare_and_swap":
                operations.compare_and_swap(execution, command.compare_and_swap, result)
            case "compact":
                self.compaction.start(command.compact.revision)
            case "lease_grant":
                yield from self._grant(command.lease_grant, result, budget)
            case "lease_renew":
                lease = command.lease_renew.lease
                result.lease.ttl_ms = leases.renew(lease)
                result.lease.lease = lease
            case "lease_revoke":
                lease = command.lease_revoke.lease
                leases.require(lease, advice="")
                yield from self._end_lease(lease, budget)
                result.lease.lease = lease
                result.revision = self._meta.revision
            case "lease_keep_alive":
                yield from self._keep_alive(command.lease_keep_alive.leases, result)
            case "acquire":
                yield from locks.acquire(execution, command.acquire, result)
            case "auth":
                self._change_rights(command.auth, result)
            case _:
                raise InvalidRequest(
                    "the command is not set; say put, delete_range, transaction, "
                    "compare_and_swap, compact, acquire, lease_grant, lease_renew, lease_revoke"
                    " or lease_keep_alive"
                )

    def _change_rights(self, command: auth_pb2.AuthCommand, result: kv_pb2.Result) -> None:
        meta = self._meta
        change = AuthChange(
            self.rights, command, self.leases.principal.user, meta.time_ms, meta.cluster_version
        )
        overlay = self.writer.overlay
        overlay.changes[Family.META].update(change.rows)
        for key, row in change.rows.items():
            overlay.effects += (key, row or b"")
        self.rights = change.after
        self._checked = not self.rights.enabled
        result.auth.auth_revision = change.after.revision

    def _keep_alive(self, asked: Iterable[int], result: kv_pb2.Result) -> Steps[None]:
        leases = self.leases
        ended = result.lease_keep_alive.ended
        result.lease_keep_alive.SetInParent()
        if not leases.principal.everything:
            for lease in asked:
                if lease in leases:
                    leases.require(lease)
                if self._pace.spend(COMMAND_UNITS):
                    yield
        for lease in asked:
            if lease in leases:
                leases.renew(lease)
            else:
                ended.append(lease)
            if self._pace.spend(COMMAND_UNITS):
                yield

    def _grant(
        self, grant: kv_pb2.LeaseGrant, result: kv_pb2.Result, budget: Budget
    ) -> Steps[None]:
        leases = self.leases
        if leases.is_ending(grant.lease):
            if not (yield from self._end_lease(grant.lease, budget)):
                raise Overloaded(
                    "the keys of the expired lease with this id are being deleted; try again",
                    retry_after_s=0.1,
                )
            result.revision = self._meta.revision
        result.lease.lease, result.lease.ttl_ms = leases.grant(grant.lease, grant.ttl_ms)
