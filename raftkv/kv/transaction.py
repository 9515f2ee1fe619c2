"""Transactions: compare on the state before, then one branch as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raftkv.errors import InvalidRequest
from raftkv.kv import operations
from raftkv.kv.budget import Budget
from raftkv.kv.compares import all_hold
from raftkv.kv.lease_sizes import LeaseSizes
from raftkv.kv.leases import Leases
from raftkv.kv.mvcc import Writer
from raftkv.kv.overlay import Overlay, Reader
from raftkv.kv.ranges import check_revision, read_range
from raftkv.kv.steps import COMMAND_UNITS, Steps
from raftkv.kv.store import Family
from raftkv.rpc import kv_pb2


@dataclass(frozen=True, slots=True)
class Path:
    """The branch that a transaction takes, and those of the transactions in it by position."""

    succeeded: bool
    operations: Sequence[kv_pb2.Operation]
    nested: Mapping[int, Path]


def decide(view: Reader, request: kv_pb2.Transaction, budget: Budget) -> Steps[Path]:
    """Evaluate all compares of the path, nested ones too, before anything is written."""
    succeeded = yield from all_hold(view, request.compare, budget)
    branch = request.success if succeeded else request.failure
    nested = {}
    for position, operation in enumerate(branch):
        if operation.HasField("transaction"):
            nested[position] = yield from decide(view, operation.transaction, budget)
    return Path(succeeded, branch, nested)


def run_transaction(
    writer: Writer,
    request: kv_pb2.Transaction,
    result: kv_pb2.Result,
    leases: Leases,
    budget: Budget,
    compacted_revision: int,
) -> Steps[None]:
    """Raises, with no effect, what any operation of the branch raises."""
    path = yield from decide(writer.overlay, request, budget)
    # On an overlay of its own: an operation that fails takes the earlier ones with it.
    overlay = Overlay(writer.overlay)
    branch = Writer(overlay, writer.revision, LeaseSizes(overlay, writer.lease_sizes))
    branch.made = None if writer.made is None else []
    yield from _Execution(branch, leases, budget, compacted_revision).run(path, result)
    writer.overlay.absorb(overlay)
    writer.lease_sizes.absorb(branch.lease_sizes)
    writer.ahead_bytes += branch.ahead_bytes
    for key in branch.overlay.changes[Family.CURRENT]:
        writer.fronts.changed(key)
    writer.position = branch.position
    if writer.made is not None and branch.made:
        writer.made += branch.made


class _Execution:
    """Runs the operations of a decided path in their order, all in one revision."""

    def __init__(
        self, writer: Writer, leases: Leases, budget: Budget, compacted_revision: int
    ) -> None:
        self._writer = writer
        self._leases = leases
        self._budget = budget
        self._compacted_revision = compacted_revision

    def run(self, path: Path, result: kv_pb2.Result) -> Steps[None]:
        answer = result.transaction
        answer.succeeded = path.succeeded
        for position, operation in enumerate(path.operations):
            if self._budget.look_at(1) or self._budget.pace.spend(COMMAND_UNITS):
                yield
            nested = path.nested.get(position)
            yield from self._run_operation(operation, nested, answer.responses.add())
        result.revision = self._writer.visible_revision

    def _run_operation(
        self, operation: kv_pb2.Operation, nested: Path | None, result: kv_pb2.Result
    ) -> Steps[None]:
        match operation.WhichOneof("operation"):
            case "put":
                operations.put(self._writer, operation.put, result, self._leases, self._budget)
            case "delete_range":
                yield from operations.delete_range(
                    self._writer, operation.delete_range, result, self._budget
                )
            case "range":
                yield from self._range(operation.range, result)
            case "transaction" if nested is not None:
                yield from self.run(nested, result)
            case _:
                raise InvalidRequest(
                    "an operation of the transaction is not set; say range, put, "
                    "delete_range or transaction"
                )

    def _range(self, request: kv_pb2.Range, result: kv_pb2.Result) -> Steps[None]:
        writer = self._writer
        if request.page and not self._budget.bounded:
            raise InvalidRequest("range.page needs the cluster version 2; read without it")
        # The transaction's own revision does not exist for a read that names its revision.
        check_revision(request.revision, writer.revision - 1, self._compacted_revision)
        yield from read_range(
            writer.overlay, request, result.range, self._budget, writer.visible_revision
        )
        result.revision = writer.visible_revision
