"""Transactions that only read: one state is compared and read, in steps."""

from __future__ import annotations

from raftkv.kv.overlay import Reader
from raftkv.kv.ranges import Budget, Steps, check_revision, read_range
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

    Compares all and opens every range in the first step: all show the same state, whatever is
    applied between the later ones.
    """
    reads: list[Steps[None]] = []
    _open(view, decide(view, request), result, budget, compacted_revision, reads)
    for steps in reads:
        yield from steps


def _open(
    view: Reader,
    path: Path,
    result: kv_pb2.Result,
    budget: Budget,
    compacted_revision: int,
    reads: list[Steps[None]],
) -> None:
    answer = result.transaction
    answer.SetInParent()
    answer.succeeded = path.succeeded
    for position, operation in enumerate(path.operations):
        response = answer.responses.add(revision=result.revision)
        nested = path.nested.get(position)
        if nested is not None:
            _open(view, nested, response, budget, compacted_revision, reads)
            continue
        check_revision(operation.range.revision, result.revision, compacted_revision)
        response.range.SetInParent()
        reads.append(read_range(view, operation.range, response.range, budget))
