"""Each command of a batch: what it changes, and its result."""

from __future__ import annotations

from jepsen_lite.model import queues
from jepsen_lite.model.budget import Budget
from jepsen_lite.model.keys import Draft
from jepsen_lite.model.operations import Operations
from jepsen_lite.model.refusals import Refusal
from jepsen_lite.model.state import State
from raftkv.rpc.v1 import auth_pb2, kv_pb2


def run(state: State, command: kv_pb2.Command, budget: Budget) -> kv_pb2.Result:
    """Run the command, unless its user may not, or it ran before under its idempotency key."""
    try:
        state.users.check_allowed(command)
    except Refusal as refusal:
        refusal.withheld = state.idempotency_keys.has_run(command, state.time_ms)
        return _failed(state, refusal)
    if not command.idempotency_key:
        result, _ = _run_or_fail(state, command, budget)
        return result
    try:
        known = state.idempotency_keys.remembered(command, state.time_ms)
        if known is not None:
            return known
        state.idempotency_keys.check_room(bounded=state.is_bounded)
    except Refusal as refusal:
        return _failed(state, refusal)
    result, refused = _run_or_fail(state, command, budget)
    if refused is None or not refused.may_succeed_later:
        state.idempotency_keys.remember(command, result, state.time_ms)
    return result


def _run_or_fail(
    state: State, command: kv_pb2.Command, budget: Budget
) -> tuple[kv_pb2.Result, Refusal | None]:
    try:
        budget.begin_command()
        return _run(state, command, budget), None
    except Refusal as refusal:
        budget.command_failed()
        return _failed(state, refusal), refusal


def _failed(state: State, refusal: Refusal) -> kv_pb2.Result:
    return kv_pb2.Result(revision=state.keys.revision, failure=refusal.failure)


def _run(state: State, command: kv_pb2.Command, budget: Budget) -> kv_pb2.Result:
    draft = Draft(state.keys)
    for fence in command.fences:
        queues.check_fence(draft, state.leases, fence.name, fence.token)
    operations = Operations(draft, state.leases, budget)
    match command.WhichOneof("command"):
        case "put":
            result = operations.put(command.put)
        case "delete_range":
            result = operations.delete_range(command.delete_range)
        case "transaction":
            result = operations.transaction(command.transaction)
        case "compare_and_swap":
            result = operations.compare_and_swap(command.compare_and_swap)
        case "compact":
            result = _compact(state, command.compact)
        case "lease_grant":
            result = _grant(state, command.lease_grant, budget)
        case "lease_renew":
            result = _renew(state, command.lease_renew)
        case "lease_revoke":
            result = _revoke(state, command.lease_revoke, budget)
        case "lease_keep_alive":
            result = _keep_alive(state, command.lease_keep_alive)
        case "acquire":
            result = _acquire(state, draft, command.acquire, budget)
        case "auth":
            result = _change_users(state, command.auth)
        case _:
            raise Refusal("INVALID_REQUEST")
    state.keys.commit(draft)
    return result


def _compact(state: State, request: kv_pb2.Compact) -> kv_pb2.Result:
    """Revisions before this one can't be read any more."""
    keys = state.keys
    if request.revision > keys.revision:
        raise Refusal("REVISION_IN_FUTURE")
    if request.revision <= keys.compacted:
        raise Refusal("REVISION_COMPACTED", compacted_revision=keys.compacted)
    keys.compacted = request.revision
    return kv_pb2.Result(revision=keys.revision)


def _grant(state: State, request: kv_pb2.LeaseGrant, budget: Budget) -> kv_pb2.Result:
    """A lease. One of this id that is over ends first, with its keys."""
    leases = state.leases
    is_over = request.lease in leases.granted and not leases.is_alive(request.lease)
    if is_over and not state.end_lease(request.lease, budget):
        raise Refusal("OVERLOADED")
    lease = leases.grant(request.lease, request.ttl_ms, bounded=state.is_bounded)
    return kv_pb2.Result(
        revision=state.keys.revision,
        lease=kv_pb2.LeaseResult(lease=lease, ttl_ms=leases.granted[lease].ttl_ms),
    )


def _renew(state: State, request: kv_pb2.LeaseRenew) -> kv_pb2.Result:
    renewed = state.leases.renew(request.lease)
    return kv_pb2.Result(
        revision=state.keys.revision,
        lease=kv_pb2.LeaseResult(lease=request.lease, ttl_ms=renewed.ttl_ms),
    )


def _revoke(state: State, request: kv_pb2.LeaseRevoke, budget: Budget) -> kv_pb2.Result:
    state.leases.check_usable(request.lease)
    state.end_lease(request.lease, budget)
    return kv_pb2.Result(
        revision=state.keys.revision, lease=kv_pb2.LeaseResult(lease=request.lease)
    )


def _keep_alive(state: State, request: kv_pb2.LeaseKeepAlive) -> kv_pb2.Result:
    result = kv_pb2.Result(revision=state.keys.revision)
    result.lease_keep_alive.SetInParent()
    for lease in request.leases:
        if state.leases.is_alive(lease):
            state.leases.check_usable(lease)
    for lease in request.leases:
        if state.leases.is_alive(lease):
            state.leases.renew(lease)
        else:
            result.lease_keep_alive.ended.append(lease)
    return result


def _change_users(state: State, command: auth_pb2.AuthCommand) -> kv_pb2.Result:
    state.users.change(command, state.time_ms, state.cluster_version)
    return kv_pb2.Result(
        revision=state.keys.revision,
        auth=auth_pb2.AuthResult(auth_revision=state.users.revision),
    )


def _acquire(state: State, draft: Draft, request: kv_pb2.Acquire, budget: Budget) -> kv_pb2.Result:
    """Join the queue of a lock, behind those that are in it."""
    if not request.name:
        raise Refusal("INVALID_REQUEST")
    leases = state.leases
    queue = queues.entries(draft, request.name)
    result = kv_pb2.Result(revision=draft.revision)
    answer = result.acquire
    answer.SetInParent()
    if queue:
        budget.show(queue[0])
        answer.holder.CopyFrom(queue[0].message())
        if request.only_if_free:
            return result
    lease = request.lease
    token = draft.next_revision
    key = queues.entry_key(request.name, token)
    if draft.get(key) is not None:
        raise Refusal("REFUSED")
    if lease:
        leases.check_attachable(draft, lease, key, bounded=state.is_bounded)
    else:
        lease = leases.grant(0, request.ttl_ms, bounded=state.is_bounded)
        answer.ttl_ms = leases.granted[lease].ttl_ms
    draft.put(key, request.value, lease)
    answer.key, answer.token, answer.lease, answer.held = key, token, lease, not queue
    result.revision = draft.revision
    return result
