"""A model of the store, as simple as possible: one dict per revision, copied each time."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace

from raftkv.kv.limits import LEASE_TTL_MS_MIN
from raftkv.rpc.v1 import kv_pb2 as pb

COMPARE = {0: operator.eq, 1: operator.gt, 2: operator.lt, 3: operator.ne}


class Rejected(Exception):
    """The command fails with this reason, without effect."""


@dataclass(frozen=True)
class Version:
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int

    def message(self, key: bytes, *, keys_only: bool = False) -> pb.KeyValue:
        value = b"" if keys_only else self.value
        return pb.KeyValue(
            key=key,
            value=value,
            create_revision=self.create_revision,
            mod_revision=self.mod_revision,
            version=self.version,
            lease=self.lease,
        )


def inside(key: bytes, start: bytes, range_end: bytes) -> bool:
    if not range_end:
        return key == start
    return key >= start and (range_end == b"\x00" or key < range_end)


class Model:
    """With bounds it is the store of the cluster version BOUNDED, whose leader has kept it up."""

    def __init__(self, deletions_max: int = 0, lease_keys_max: int = 0) -> None:
        self.bounded = bool(deletions_max)
        self.deletions_max = deletions_max or 1_000
        self.lease_keys_max = lease_keys_max or 1_000
        self.deletions_left = 0
        self.ending: dict[int, int] = {}  # leases with more keys than one command deletes
        self.states: dict[int, dict[bytes, Version]] = {1: {}}
        self.revision = 1
        self.compacted = 0
        self.time_ms = 0
        self.leases: dict[int, tuple[int, int]] = {}
        # The change under way: the state so far, and whether it differs.
        self.now: dict[bytes, Version] = {}
        self.changed = False

    # ---- commands ------------------------------------------------------------------

    def pass_time(self, time_ms: int) -> None:
        self.time_ms = max(self.time_ms, time_ms)
        over = {
            lease: deadline_ms
            for lease, (_, deadline_ms) in self.leases.items()
            if deadline_ms <= self.time_ms
        } | self.ending
        for lease in sorted(over, key=lambda each: (over[each], each)):
            self.ending[lease] = over[lease]
            self.leases.pop(lease, None)
            while lease in self.ending:
                self.begin()
                self.end_lease(lease)
                self.commit()

    def run(self, command: pb.Command) -> pb.Result:
        self.begin()
        name = command.WhichOneof("command")
        try:
            result = getattr(self, name)(getattr(command, name))
        except Rejected as rejected:
            return pb.Result(revision=self.revision, failure=pb.Failure(reason=rejected.args[0]))
        self.commit()
        return result

    def begin(self) -> None:
        self.now = dict(self.states[self.revision])
        self.changed = False
        self.deletions_left = self.deletions_max

    def commit(self) -> None:
        if self.changed:
            self.revision += 1
            self.states[self.revision] = self.now

    @property
    def visible(self) -> int:
        return self.revision + self.changed

    def compact(self, request: pb.Compact) -> pb.Result:
        if request.revision <= self.compacted:
            raise Rejected("REVISION_COMPACTED")
        if request.revision > self.revision:
            raise Rejected("REVISION_IN_FUTURE")
        self.compacted = request.revision
        return pb.Result(revision=self.revision)

    def lease_grant(self, request: pb.LeaseGrant) -> pb.Result:
        if request.lease in self.leases:
            raise Rejected("LEASE_EXISTS")
        ttl_ms = max(request.ttl_ms, LEASE_TTL_MS_MIN)
        self.leases[request.lease] = (ttl_ms, self.time_ms + ttl_ms)
        return self.of_lease(request.lease, ttl_ms)

    def lease_renew(self, request: pb.LeaseRenew) -> pb.Result:
        self.require(request.lease)
        ttl_ms, _ = self.leases[request.lease]
        self.leases[request.lease] = (ttl_ms, self.time_ms + ttl_ms)
        return self.of_lease(request.lease, ttl_ms)

    def lease_revoke(self, request: pb.LeaseRevoke) -> pb.Result:
        self.require(request.lease)
        del self.leases[request.lease]
        self.ending[request.lease] = self.time_ms
        self.end_lease(request.lease)
        return self.of_lease(request.lease, 0)

    def of_lease(self, lease: int, ttl_ms: int) -> pb.Result:
        return pb.Result(revision=self.visible, lease=pb.LeaseResult(lease=lease, ttl_ms=ttl_ms))

    def end_lease(self, lease: int) -> None:
        keys = sorted(key for key, each in self.now.items() if each.lease == lease)
        for key in keys[: self.deletions_max]:
            del self.now[key]
            self.changed = True
        if len(keys) <= self.deletions_max:
            del self.ending[lease]

    def require(self, lease: int) -> None:
        if lease not in self.leases:
            raise Rejected("LEASE_NOT_FOUND")

    def require_room(self, lease: int, key: bytes) -> None:
        self.require(lease)
        attached = [each for each, version in self.now.items() if version.lease == lease]
        if key not in attached and len(attached) >= self.lease_keys_max:
            raise Rejected("TOO_MANY_KEYS")

    # ---- operations ----------------------------------------------------------------

    def put(self, request: pb.Put) -> pb.Result:
        old = self.now.get(request.key)
        if request.lease:
            self.require_room(request.lease, request.key)
        if old is None and (request.ignore_value or request.ignore_lease):
            raise Rejected("KEY_NOT_FOUND")
        self.write(
            request.key,
            old.value if request.ignore_value else request.value,
            old.lease if request.ignore_lease else request.lease,
        )
        result = pb.Result(revision=self.visible)
        if request.prev_kv and old is not None:
            result.put.prev_kv.CopyFrom(old.message(request.key))
        return result

    def write(self, key: bytes, value: bytes, lease: int) -> None:
        old = self.now.get(key)
        revision = self.revision + 1
        if old is None:
            self.now[key] = Version(value, revision, revision, 1, lease)
        else:
            self.now[key] = replace(
                old, value=value, mod_revision=revision, version=old.version + 1, lease=lease
            )
        self.changed = True

    def delete_range(self, request: pb.DeleteRange) -> pb.Result:
        doomed = sorted(key for key in self.now if inside(key, request.key, request.range_end))
        more = False
        if request.range_end:
            if request.limit and not self.bounded:
                raise Rejected("INVALID_REQUEST")
            keys_max = min(request.limit or self.deletions_left, self.deletions_left)
            more = len(doomed) > keys_max
            if more and not (request.limit and keys_max):
                raise Rejected("TOO_MANY_KEYS")
            doomed = doomed[:keys_max]
            self.deletions_left -= len(doomed)
        answer = pb.DeleteRangeResult(deleted=len(doomed), more=more)
        for key in doomed:
            old = self.now.pop(key)
            if request.prev_kv:
                answer.prev_kvs.append(old.message(key))
        self.changed = self.changed or bool(doomed)
        return pb.Result(revision=self.visible, delete_range=answer)

    def compare_and_swap(self, request: pb.CompareAndSwap) -> pb.Result:
        old = self.now.get(request.key)
        match request.WhichOneof("expected"):
            case "absent":
                swapped = (old is None) == request.absent
            case "value":
                swapped = old is not None and old.value == request.value
            case _:
                swapped = (old.mod_revision if old else 0) == request.mod_revision
        if swapped:
            if request.lease:
                self.require_room(request.lease, request.key)
            self.write(request.key, request.new_value, request.lease)
        answer = pb.CompareAndSwapResult(swapped=swapped)
        if request.key in self.now:
            answer.current.CopyFrom(self.now[request.key].message(request.key))
        return pb.Result(revision=self.visible, compare_and_swap=answer)

    def transaction(self, request: pb.Transaction) -> pb.Result:
        before = dict(self.now)
        return self.branch(request, before)

    def branch(self, request: pb.Transaction, before: dict[bytes, Version]) -> pb.Result:
        succeeded = all(self.holds(compare, before) for compare in request.compare)
        answer = pb.TransactionResult(succeeded=succeeded)
        for each in request.success if succeeded else request.failure:
            name = each.WhichOneof("operation")
            operation = getattr(each, name)
            if name == "transaction":
                answer.responses.append(self.branch(operation, before))
            else:
                answer.responses.append(getattr(self, name)(operation))
        return pb.Result(revision=self.visible, transaction=answer)

    def holds(self, compare: pb.Compare, before: dict[bytes, Version]) -> bool:
        target = compare.WhichOneof("target")
        expected = getattr(compare, target)
        found = [
            getattr(each, target)
            for key, each in before.items()
            if inside(key, compare.key, compare.range_end)
        ]
        if not found:
            return target != "value" and COMPARE[compare.result](0, expected)
        return all(COMPARE[compare.result](actual, expected) for actual in found)

    def range(self, request: pb.Range) -> pb.Result:
        if request.revision > self.revision:
            raise Rejected("REVISION_IN_FUTURE")
        if 0 < request.revision < self.compacted:
            raise Rejected("REVISION_COMPACTED")
        state = self.states[request.revision] if request.revision > 0 else self.now
        found = [
            (key, state[key])
            for key in sorted(state)
            if inside(key, request.key, request.range_end)
        ]
        answer = pb.RangeResult(count=len(found))
        if not request.count_only:
            kept = [
                (key, each)
                for key, each in found
                if each.mod_revision >= request.min_mod_revision
                and each.create_revision >= request.min_create_revision
                and (not request.max_mod_revision or each.mod_revision <= request.max_mod_revision)
            ]
            kept.sort(
                key=[
                    lambda row: row[0],
                    lambda row: row[1].version,
                    lambda row: row[1].create_revision,
                    lambda row: row[1].mod_revision,
                    lambda row: row[1].value,
                ][request.sort_target],
                reverse=request.sort_order == pb.SORT_ORDER_DESCEND,
            )
            if 0 < request.limit < len(kept):
                answer.more = True
                kept = kept[: request.limit]
            for key, each in kept:
                answer.kvs.append(each.message(key, keys_only=request.keys_only))
        return pb.Result(revision=self.visible, range=answer)
