"""Puts, deletions, compare-and-swap and transactions, each on a draft."""

from __future__ import annotations

from dataclasses import dataclass

from jepsen_lite.model import ranges
from jepsen_lite.model.budget import Budget, record_bytes, result_bytes, rows_of
from jepsen_lite.model.keys import Draft, Version
from jepsen_lite.model.leases import Leases
from jepsen_lite.model.refusals import Refusal
from raftkv.rpc.v1 import kv_pb2


@dataclass(slots=True)
class Operations:
    """Runs operations on the draft of one command."""

    draft: Draft
    leases: Leases
    budget: Budget

    def put(self, request: kv_pb2.Put) -> kv_pb2.Result:
        before = self.draft.get(request.key)
        self.budget.read_value(before)
        self._check_attachable(request.lease, request.key)
        value, lease = request.value, request.lease
        if request.ignore_value or request.ignore_lease:
            if before is None:
                raise Refusal("KEY_NOT_FOUND")
            value = before.value if request.ignore_value else value
            lease = before.lease if request.ignore_lease else lease
        result = kv_pb2.Result(revision=self.draft.next_revision)
        if before is not None:
            if request.prev_kv:
                self.budget.show(before)
                result.put.prev_kv.CopyFrom(before.message())
            self.budget.replace(record_bytes(before))
        self.draft.put(request.key, value, lease)
        return result

    def _check_attachable(self, lease: int, key: bytes) -> None:
        self.leases.check_attachable(self.draft, lease, key, bounded=self.budget.bounded)

    def delete_range(self, request: kv_pb2.DeleteRange) -> kv_pb2.Result:
        found = self.draft.range(request.key, request.range_end)
        doomed = self._first_page(found, request) if request.range_end else found
        self.budget.deletions += len(doomed) if request.range_end else 0
        self.budget.replace(sum(record_bytes(row) for row in doomed))
        for row in doomed:
            if request.prev_kv:
                self.budget.show(row)
            self.draft.delete(row.key)
        result = kv_pb2.Result(revision=self.draft.revision)
        result.delete_range.deleted = len(doomed)
        result.delete_range.more = len(doomed) < len(found)
        if request.prev_kv:
            result.delete_range.prev_kvs.extend(row.message() for row in doomed)
        return result

    def _first_page(self, found: list[Version], request: kv_pb2.DeleteRange) -> list[Version]:
        """The keys that this request deletes: all, or with a limit as many as the budget allows."""
        budget, limit = self.budget, max(request.limit, 0)
        if limit and not budget.bounded:
            raise Refusal("INVALID_REQUEST")
        doomed: list[Version] = []
        replaced_bytes = shown_bytes = 0
        for row in found:
            replaced_bytes += record_bytes(row)
            shown_bytes += result_bytes(row) if request.prev_kv and limit else 0
            if (
                len(doomed) == limit > 0
                or not budget.allows_deletions(len(doomed) + 1)
                or not budget.allows_replaced(replaced_bytes)
                or not budget.allows_result(shown_bytes)
                or not budget.allows_rows(rows_of(row))
            ):
                if not limit or not doomed:
                    raise budget.refuse("TOO_MANY_KEYS", keys_max=budget.bounds.deletions_per_batch)
                break
            budget.examine(rows_of(row))
            doomed.append(row)
        return doomed

    def compare_and_swap(self, request: kv_pb2.CompareAndSwap) -> kv_pb2.Result:
        present = self.draft.get(request.key)
        self.budget.read_value(present)
        match request.WhichOneof("expected"):
            case "absent":
                swapped = (present is None) == request.absent
            case "value":
                swapped = present is not None and present.value == request.value
            case "mod_revision":
                swapped = (present.mod_revision if present else 0) == request.mod_revision
            case _:
                raise Refusal("INVALID_REQUEST")
        if swapped:
            self._check_attachable(request.lease, request.key)
            if present is not None:
                self.budget.replace(record_bytes(present))
            present = self.draft.put(request.key, request.new_value, request.lease)
        result = kv_pb2.Result(revision=self.draft.revision)
        result.compare_and_swap.swapped = swapped
        if present is not None:
            if not swapped:
                self.budget.show(present)
            result.compare_and_swap.current.CopyFrom(present.message())
        return result

    def range(self, request: kv_pb2.Range) -> kv_pb2.Result:
        found = ranges.read(self.draft, request, self.budget)
        return kv_pb2.Result(revision=self.draft.revision, range=found)

    def transaction(self, request: kv_pb2.Transaction) -> kv_pb2.Result:
        """All compares, those of nested transactions too, see the store as it was before."""
        return self._run(self._decide(request))

    def _decide(self, request: kv_pb2.Transaction) -> Decided:
        succeeded = all(self._holds(each) for each in request.compare)
        branch = request.success if succeeded else request.failure
        return Decided(
            succeeded,
            [
                (each, self._decide(each.transaction) if each.HasField("transaction") else None)
                for each in branch
            ],
        )

    def _run(self, decided: Decided) -> kv_pb2.Result:
        responses = []
        for operation, nested in decided.branch:
            self.budget.examine(1)
            if nested is not None:
                responses.append(self._run(nested))
            elif operation.HasField("put"):
                responses.append(self.put(operation.put))
            elif operation.HasField("delete_range"):
                responses.append(self.delete_range(operation.delete_range))
            else:
                responses.append(self.range(operation.range))
        return kv_pb2.Result(
            revision=self.draft.revision,
            transaction=kv_pb2.TransactionResult(succeeded=decided.succeeded, responses=responses),
        )

    def _holds(self, compare: kv_pb2.Compare) -> bool:
        if not compare.range_end:
            row = self.draft.get(compare.key)
            self.budget.examine(rows_of(row))
            return _row_holds(row, compare)
        rows = self.draft.range(compare.key, compare.range_end)
        for row in rows:
            self.budget.examine(rows_of(row))
            if not _row_holds(row, compare):
                return False
        return bool(rows) or _row_holds(None, compare)


@dataclass(frozen=True, slots=True)
class Decided:
    """A transaction whose compares are done: the branch that runs, with its nested ones."""

    succeeded: bool
    branch: list[tuple[kv_pb2.Operation, Decided | None]]


def _row_holds(row: Version | None, compare: kv_pb2.Compare) -> bool:
    target = compare.WhichOneof("target")
    if target is None:
        raise Refusal("INVALID_REQUEST")
    if target == "value" and row is None:
        return False
    actual = getattr(row, target) if row is not None else 0
    given = getattr(compare, target)
    match compare.result:
        case kv_pb2.COMPARE_RESULT_EQUAL:
            return bool(actual == given)
        case kv_pb2.COMPARE_RESULT_GREATER:
            return bool(actual > given)
        case kv_pb2.COMPARE_RESULT_LESS:
            return bool(actual < given)
        case _:
            return bool(actual != given)
