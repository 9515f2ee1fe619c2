"""Transactions: evaluate the compares on the state before, then run one branch atomically."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from raftkv.errors import InvalidRequest
from raftkv.kv import operations
from raftkv.kv.budget import Budget, rows_of
from raftkv.kv.execution import Execution
from raftkv.kv.leases import LeaseSizes
from raftkv.kv.locks import QueueHeads
from raftkv.kv.overlay import Overlay, StateReader
from raftkv.kv.pace import COMMAND_UNITS, Steps
from raftkv.kv.ranges import check_revision, read_range
from raftkv.kv.records import VERSION_BYTES, unpack_version
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2
from raftkv.wire.ranges import exclusive_end


@dataclass(frozen=True, slots=True)
class Decision:
    """The branch that a transaction takes, and the decisions of nested ones by their position."""

    succeeded: bool
    operations: Sequence[kv_pb2.Operation]
    nested: Mapping[int, Decision]


def decide(view: StateReader, request: kv_pb2.Transaction, budget: Budget) -> Steps[Decision]:
    """Evaluate all compares, also those of nested transactions, before anything is written."""
    succeeded = yield from all_hold(view, request.compare, budget)
    branch = request.success if succeeded else request.failure
    nested = {}
    for position, operation in enumerate(branch):
        if operation.HasField("transaction"):
            nested[position] = yield from decide(view, operation.transaction, budget)
    return Decision(succeeded, branch, nested)


def run_transaction(
    execution: Execution, request: kv_pb2.Transaction, result: kv_pb2.Result
) -> Steps[None]:
    """Raises, with no effect, what any operation of the branch raises."""
    decision = yield from decide(execution.writer.overlay, request, execution.budget)
    # An operation that fails undoes the earlier ones: all are in an overlay that is dropped then.
    scratch = _on_top_of(execution)
    yield from _run(scratch, decision, result)
    _absorb(execution, scratch)


def _on_top_of(execution: Execution) -> Execution:
    """An execution that writes in the same revision, to an overlay of its own."""
    overlay = Overlay(execution.writer.overlay)
    heads, sizes = QueueHeads(), LeaseSizes(overlay, execution.lease_sizes)
    writer = execution.writer.branch(overlay, heads, sizes)
    return Execution(writer, heads, sizes, execution.leases, execution.meta, execution.budget)


def _absorb(execution: Execution, above: Execution) -> None:
    """Take over all changes of an execution on top of this one."""
    execution.writer.absorb(above.writer)
    execution.lease_sizes.absorb(above.lease_sizes)
    for key in above.writer.overlay.changes[Family.CURRENT]:
        execution.queue_heads.changed(key)


def _run(execution: Execution, decision: Decision, result: kv_pb2.Result) -> Steps[None]:
    """Run the operations of the decided branch in their order, all in one revision."""
    budget, answer = execution.budget, result.transaction
    answer.succeeded = decision.succeeded
    for position, operation in enumerate(decision.operations):
        if budget.count_rows(1) or budget.pace.spend(COMMAND_UNITS):
            yield
        nested, response = decision.nested.get(position), answer.responses.add()
        match operation.WhichOneof("operation"):
            case "put":
                operations.put(execution, operation.put, response)
            case "delete_range":
                yield from operations.delete_range(execution, operation.delete_range, response)
            case "range":
                yield from _range(execution, operation.range, response)
            case "transaction" if nested is not None:
                yield from _run(execution, nested, response)
            case _:
                raise InvalidRequest(
                    "an operation of the transaction is not set; say range, put, "
                    "delete_range or transaction"
                )
    result.revision = execution.writer.visible_revision


def _range(execution: Execution, request: kv_pb2.Range, result: kv_pb2.Result) -> Steps[None]:
    writer, budget = execution.writer, execution.budget
    if request.page and not budget.bounded:
        raise InvalidRequest("range.page needs the cluster version 2; read without it")
    # The transaction's own revision does not exist for a read that names its revision.
    check_revision(request.revision, writer.revision - 1, execution.meta.compacted_revision)
    yield from read_range(writer.overlay, request, result.range, budget, writer.visible_revision)
    result.revision = writer.visible_revision


def read_transaction(
    view: StateReader,
    request: kv_pb2.Transaction,
    result: kv_pb2.Result,
    budget: Budget,
    compacted_revision: int,
) -> Steps[None]:
    """Fill `result`, whose revision is that of `view`. Raises what any range of the branch raises.

    `view` must be a snapshot, which does not change between the steps.
    """
    decision = yield from decide(view, request, budget)
    yield from _fill(view, decision, result, budget, compacted_revision)


def _fill(
    view: StateReader,
    decision: Decision,
    result: kv_pb2.Result,
    budget: Budget,
    compacted_revision: int,
) -> Steps[None]:
    answer = result.transaction
    answer.SetInParent()
    answer.succeeded = decision.succeeded
    for position, operation in enumerate(decision.operations):
        if budget.count_rows(1):
            yield
        response = answer.responses.add(revision=result.revision)
        nested = decision.nested.get(position)
        if nested is not None:
            yield from _fill(view, nested, response, budget, compacted_revision)
            continue
        check_revision(operation.range.revision, result.revision, compacted_revision)
        response.range.SetInParent()
        yield from read_range(view, operation.range, response.range, budget, result.revision)


_HOLDS: Final[dict[int, Callable[[Any, Any], bool]]] = {
    kv_pb2.COMPARE_RESULT_EQUAL: operator.eq,
    kv_pb2.COMPARE_RESULT_GREATER: operator.gt,
    kv_pb2.COMPARE_RESULT_LESS: operator.lt,
    kv_pb2.COMPARE_RESULT_NOT_EQUAL: operator.ne,
}

_FIELD_OF_VERSION: Final = {"create_revision": 0, "mod_revision": 1, "version": 2, "lease": 3}


def all_hold(view: StateReader, compares: Iterable[kv_pb2.Compare], budget: Budget) -> Steps[bool]:
    """Whether all compares hold. Raises `TooManyKeys`."""
    for compare in compares:
        if not compare.range_end:
            record = view.get(Family.CURRENT, compare.key)
            if budget.count_rows(rows_of(record or b"")):
                yield
            if not _record_holds(compare, record):
                return False
        elif not (yield from _range_holds(view, compare, budget)):
            return False
    return True


def _range_holds(view: StateReader, compare: kv_pb2.Compare, budget: Budget) -> Steps[bool]:
    empty = True
    for _, record in view.scan(
        Family.CURRENT, compare.key, exclusive_end(compare.key, compare.range_end)
    ):
        empty = False
        if budget.count_rows(rows_of(record)):
            yield
        if not _record_holds(compare, record):
            return False
    return _record_holds(compare, None) if empty else True


def _record_holds(compare: kv_pb2.Compare, record: bytes | None) -> bool:
    target = compare.WhichOneof("target")
    holds = _HOLDS.get(compare.result)
    if target is None or holds is None:
        raise InvalidRequest(
            "compare needs a target and a known result; set one of version, create_revision, "
            "mod_revision, value, lease, and EQUAL, GREATER, LESS or NOT_EQUAL"
        )
    if target == "value":
        # A missing key has no value: it is neither equal nor unequal to any.
        return record is not None and holds(record[VERSION_BYTES:], compare.value)
    actual = unpack_version(record)[_FIELD_OF_VERSION[target]] if record is not None else 0
    return holds(actual, getattr(compare, target))
