"""Transactions that only read: one state is compared and read, in steps."""

from __future__ import annotations

from raftkv.kv.budget import Budget
from raftkv.kv.overlay import Reader
from raftkv.kv.ranges import check_revision, read_range
from raftkv.kv.steps import Steps
from raftkv.kv.transaction import Path, decide
from raftkv.rpc import kv_pb2


def read_transaction(
    view: Reader,
    request: kv_pb2.Transaction,
    result: kv_pb2.Result,
    budget: Budget,
    compacted_revision: int,
) -> Steps[None]:
    """Fill `result`, whose revision is that of `view`. Raises what any range of the branch raises.

    `view` must stay as it is, whatever is applied between the steps.
    """
    path = yield from decide(view, request, budget)
    yield from _fill(view, path, result, budget, compacted_revision)


def _fill(
    view: Reader, path: Path, result: kv_pb2.Result, budget: Budget, compacted_revision: int
) -> Steps[None]:
    answer = result.transaction
    answer.SetInParent()
    answer.succeeded = path.succeeded
    for position, operation in enumerate(path.operations):
        if budget.look_at(1):
            yield
        response = answer.responses.add(revision=result.revision)
        nested = path.nested.get(position)
        if nested is not None:
            yield from _fill(view, nested, response, budget, compacted_revision)
            continue
        check_revision(operation.range.revision, result.revision, compacted_revision)
        response.range.SetInParent()
        yield from read_range(view, operation.range, response.range, budget, result.revision)
