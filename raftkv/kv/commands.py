"""From command to result: who does what, and how failures come back. Knows no log and no disk."""

from __future__ import annotations

from raftkv.errors import InvalidRequest, Refused
from raftkv.kv import locks, operations
from raftkv.kv.canonical import result_size_bytes
from raftkv.kv.compaction import Compaction
from raftkv.kv.failures import fill_failure
from raftkv.kv.idempotency import IdempotencyKeys
from raftkv.kv.leases import Leases
from raftkv.kv.limits import RESULT_BYTES_MAX
from raftkv.kv.meta import Meta
from raftkv.kv.mvcc import Writer
from raftkv.kv.overlay import Overlay
from raftkv.kv.ranges import Budget
from raftkv.kv.sessions import Sessions
from raftkv.kv.transaction import run_transaction
from raftkv.rpc import kv_pb2


class CommandRunner:
    """Runs commands on an overlay. A command either changes the state or fails, never raises."""

    def __init__(self, overlay: Overlay, meta: Meta) -> None:
        self._meta = meta
        self.writer = Writer(overlay, meta.revision + 1)
        self.leases = Leases(overlay, meta)
        self.sessions = Sessions(overlay)
        self.idempotency_keys = IdempotencyKeys(overlay, meta)
        self.compaction = Compaction(overlay, meta)

    def run_batch(self, batch: kv_pb2.CommandBatch) -> kv_pb2.BatchResult:
        """One result per command, in order; an earlier one's changes show to the later ones."""
        answer = kv_pb2.BatchResult()
        add = answer.results.add
        budget = Budget(RESULT_BYTES_MAX)
        for command in batch.commands:
            result = add()
            if command.idempotency_key:
                self._run_named(command, result, budget)
            elif command.fences or not self._put_plainly(command.put, result):
                self._run(command, result, budget)
        return answer

    def end_expired_leases(self) -> None:
        """Expire every lease whose deadline has come, each in a revision of its own."""
        while (lease := self.leases.expired()) is not None:
            self._end_lease(lease)

    def _put_plainly(self, put: kv_pb2.Put, result: kv_pb2.Result) -> bool:
        """Run a put without options, which most commands are, in few steps.

        False, with no effect, if it is not one. A command that is no put shows as an empty one.
        """
        key, lease = put.key, put.lease
        if (
            not key
            or put.prev_kv
            or put.ignore_value
            or put.ignore_lease
            or (lease and lease not in self.leases)
        ):
            return False
        writer, meta = self.writer, self._meta
        writer.revision = result.revision = revision = meta.revision + 1
        writer.position = 0
        writer.put(key, put.value, lease, writer.get(key))
        meta.revision = revision
        return True

    def _run_named(self, command: kv_pb2.Command, result: kv_pb2.Result, budget: Budget) -> None:
        try:
            first = self.idempotency_keys.result(command)
            if first is not None:
                result.MergeFromString(first)
                # Not by the length of `first`, which depends on this node's protobuf library.
                budget.take(result_size_bytes(result))
                return
        except (InvalidRequest, Refused) as error:
            result.Clear()
            result.revision = self._meta.revision
            fill_failure(result.failure, error)
            return
        self._run(command, result, budget)
        self.idempotency_keys.remember(command, result.SerializeToString(deterministic=True))

    def _run(self, command: kv_pb2.Command, result: kv_pb2.Result, budget: Budget) -> None:
        writer, meta = self.writer, self._meta
        writer.revision = meta.revision + 1
        writer.position = 0
        bytes_left = budget.bytes_left
        try:
            for fence in command.fences:
                locks.check_fence(writer.overlay, fence, writer.fronts)
            self._dispatch(command, result, budget)
        except (InvalidRequest, Refused) as error:
            budget.bytes_left = bytes_left
            result.Clear()
            result.revision = meta.revision
            fill_failure(result.failure, error)
            return
        if writer.position:
            meta.revision = writer.revision

    def _dispatch(self, command: kv_pb2.Command, result: kv_pb2.Result, budget: Budget) -> None:
        writer, leases = self.writer, self.leases
        result.revision = self._meta.revision
        match command.WhichOneof("command"):
            case "put":
                operations.put(writer, command.put, result, leases, budget)
            case "delete_range":
                operations.delete_range(writer, command.delete_range, result, budget)
            case "transaction":
                run_transaction(
                    writer,
                    command.transaction,
                    result,
                    leases,
                    budget,
                    self._meta.compacted_revision,
                )
            case "compare_and_swap":
                operations.compare_and_swap(
                    writer, command.compare_and_swap, result, leases, budget
                )
            case "compact":
                self.compaction.start(command.compact.revision)
            case "lease_grant":
                grant = command.lease_grant
                result.lease.lease, result.lease.ttl_ms = leases.grant(grant.lease, grant.ttl_ms)
            case "lease_renew":
                lease = command.lease_renew.lease
                result.lease.ttl_ms = leases.renew(lease)
                result.lease.lease = lease
            case "lease_revoke":
                lease = command.lease_revoke.lease
                leases.require(lease, advice="")
                self._end_lease(lease)
                result.lease.lease = lease
                result.revision = self._meta.revision
            case "lease_keep_alive":
                result.lease_keep_alive.SetInParent()
                for lease in command.lease_keep_alive.leases:
                    if lease in leases:
                        leases.renew(lease)
                    else:
                        result.lease_keep_alive.ended.append(lease)
            case "acquire":
                locks.acquire(writer, command.acquire, result, leases, writer.fronts, budget)
            case _:
                raise InvalidRequest(
                    "the command is not set; say put, delete_range, transaction, "
                    "compare_and_swap, compact, acquire, lease_grant, lease_renew, lease_revoke"
                    " or lease_keep_alive"
                )

    def _end_lease(self, lease: int) -> None:
        writer, meta = self.writer, self._meta
        writer.revision = meta.revision + 1
        writer.position = 0
        self.leases.end(lease, writer)
        self.sessions.forget(lease)
        if writer.position:
            meta.revision = writer.revision
