"""Rights at the front door: who may do what, and when a grant or a withdrawal takes effect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
import jwt
import pytest
from fake_node import PATIENCE_S, FakeServer, Pipeline, get, put
from structlog.testing import capture_logs
from users import Users

from raftkv import errors
from raftkv.errors import Outcome, PermissionDenied, RaftkvError, Unauthenticated
from raftkv.kv.rights import ROOT, Access, AdminRight
from raftkv.peer.ports import Author
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.rpc.v1 import auth_pb2 as auth
from raftkv.server.authentication import Authenticator
from raftkv.wire.failures import error_of
from raftkv.wire.grpc_status import error_of_call, read_status

STALE = api_pb2.READ_LEVEL_STALE
ALL_A = kv_pb2.Range(key=b"a", range_end=b"b")


@pytest.fixture
def users(server: FakeServer) -> Users:
    return Users(server.node)


async def failure_of(call: Awaitable[Any]) -> RaftkvError:
    """The typed error with which the call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call
    error = error_of_call(ended.value)
    assert error is not None, ended.value
    return error


def execute(server: FakeServer, command: kv_pb2.Command, metadata: Any) -> Awaitable[Any]:
    request = api_pb2.ExecuteRequest(command=command)
    call: Awaitable[Any] = server.kv.Execute(request, metadata=metadata)
    return call


def read(server: FakeServer, range_: kv_pb2.Range, metadata: Any, level: Any = 0) -> Awaitable[Any]:
    request = api_pb2.RangeRequest(range=range_, level=level)
    call: Awaitable[Any] = server.kv.Range(request, metadata=metadata)
    return call


def pipeline(server: FakeServer, metadata: Any) -> Pipeline:
    return Pipeline(server.channel, metadata)


# ---- writes --------------------------------------------------------------------------


async def test_a_user_writes_where_it_has_the_right_and_nowhere_else(
    server: FakeServer, users: Users
) -> None:
    await execute(server, put("a1"), users.of("app"))
    denied = await failure_of(execute(server, put("b1"), users.of("app")))
    assert isinstance(denied, PermissionDenied)
    assert denied.outcome is Outcome.NOT_APPLIED
    assert "write access to the key 'b1'" in denied.facts["missing"]
    assert isinstance(
        await failure_of(execute(server, put("a1"), users.of("reader"))), PermissionDenied
    )
    assert isinstance(await failure_of(execute(server, put("a1"), ())), Unauthenticated)
    assert len(server.node.submitted) == 1


async def test_every_submission_has_its_author_also_while_authentication_is_disabled(
    server: FakeServer,
) -> None:
    users = Users(server.node, enabled=False)
    await execute(server, put("z"), users.of("app"))
    await execute(server, put("z"), ())
    of_app = pipeline(server, users.of("app"))
    await of_app.send_commands(1, put("z"))
    await of_app.reply()
    keep_alive = server.lease.KeepAlive(metadata=users.of("app"))
    await keep_alive.write(api_pb2.LeaseKeepAliveRequest(leases=[99]))
    await keep_alive.read()
    app = users.author("app")
    assert app.user
    assert server.node.authors == [app, Author(0, app.auth_revision), app, app]


async def test_a_refused_command_fails_its_batch_with_its_position(
    server: FakeServer, users: Users
) -> None:
    stream = pipeline(server, users.of("app"))
    await stream.send_commands(1, put("a1"), put("b1"), put("a2"))
    refused = error_of((await stream.reply()).failure)
    assert isinstance(refused, PermissionDenied)
    assert (refused.facts["position"], refused.outcome) == ("1", Outcome.NOT_APPLIED)
    await stream.send_commands(2, put("a1"))
    assert (await stream.reply()).HasField("results")
    assert len(server.node.submitted) == 1


async def test_a_repeated_command_is_refused_as_maybe_applied(
    server: FakeServer, users: Users
) -> None:
    command = put("a1")
    command.idempotency_key, command.idempotency_ttl_ms = b"once", 60_000
    stream = pipeline(server, users.of("app"))
    await stream.send_commands(1, command)
    assert (await stream.reply()).HasField("results")
    users.withdraw("app")
    await stream.send_commands(2, put("a1"), command)
    await stream.send_commands(3, command)
    first, second = [error_of((await stream.reply()).failure) for _ in range(2)]
    assert (first.facts["position"], first.outcome) == ("0", Outcome.NOT_APPLIED)
    assert (second.facts["position"], second.outcome) == ("0", Outcome.MAYBE_APPLIED)
    assert isinstance(second, PermissionDenied)


async def test_a_repeated_batch_of_a_session_is_refused_as_a_whole(
    server: FakeServer, users: Users
) -> None:
    stream = pipeline(server, users.of("app"))
    await stream.send_commands(1, kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(ttl_ms=60_000)))
    granted = kv_pb2.BatchResult.FromString((await stream.reply()).results)
    batch = kv_pb2.CommandBatch(
        commands=[put("a1")], session=granted.results[0].lease.lease, sequence=1
    ).SerializeToString()
    await stream.send(api_pb2.PipelineRequest(number=2, commands=batch))
    assert (await stream.reply()).HasField("results")
    users.withdraw("app")
    await stream.send(api_pb2.PipelineRequest(number=3, commands=batch))
    refused = error_of((await stream.reply()).failure)
    assert isinstance(refused, PermissionDenied)
    assert refused.outcome is Outcome.MAYBE_APPLIED
    assert "position" not in refused.facts


async def test_a_node_that_lags_does_not_refuse_what_was_granted_before(
    server: FakeServer, users: Users
) -> None:
    users.withdraw("app")
    server.node.on_barrier = lambda: users.restore("app") if withdrawn() else None

    def withdrawn() -> bool:
        return not server.node.machine.rights.users[users.author("app").user].roles

    await execute(server, put("a1"), users.of("app"))
    users.withdraw("app")
    stream = pipeline(server, users.of("app"))
    await stream.send_commands(1, put("a1"))
    assert (await stream.reply()).HasField("results")


async def test_a_node_without_contact_refuses_nothing_for_want_of_a_right(
    server: FakeServer, users: Users
) -> None:
    server.node.majority = False
    stream = pipeline(server, users.of("app"))
    await stream.send_commands(1, put("b1"), timeout_ms=50)
    await stream.send_reads(2, get("a1"), level=STALE)
    assert (await stream.reply()).number == 2  # it did not wait for the other
    assert (await stream.reply()).failure.reason == "NO_LEADER"


async def test_rights_withdrawn_between_the_check_and_apply_are_refused_at_apply(
    server: FakeServer, users: Users
) -> None:
    server.node.hold = True
    stream = pipeline(server, users.of("app"))
    await stream.send_commands(1, put("a1"))
    await server.node.submissions(1)
    users.withdraw("app")
    with capture_logs() as lines:
        server.node.release()
        results = kv_pb2.BatchResult.FromString((await stream.reply()).results)
    assert results.results[0].failure.reason == "PERMISSION_DENIED"
    (refused,) = [line for line in lines if line["event"] == "audit"]
    assert (refused["who"], refused["what"]) == ("app", "Pipeline.Open")


async def test_a_client_can_send_no_command_on_users(server: FakeServer) -> None:
    rotate = auth.AuthCommand(signing_key_rotate=auth.SigningKeyRotate(secret=bytes(32)))
    refused = await failure_of(execute(server, kv_pb2.Command(auth=rotate), ()))
    assert isinstance(refused, errors.InvalidRequest)


# ---- tokens in streams ---------------------------------------------------------------


async def test_a_pipeline_goes_on_with_a_newer_token_of_its_user_and_no_other(
    server: FakeServer, users: Users
) -> None:
    stream = pipeline(server, users.of("app"))
    before = users.tokens["app"]
    users.add_token("app")
    await stream.send(api_pb2.PipelineRequest(number=1, token=users.tokens["app"]))
    assert (await stream.reply()).WhichOneof("reply") is None
    rights = server.node.machine.rights
    old = next(id for id in rights.tokens if id.hex() in before)
    users.change(token_revoke=auth.TokenRevoke(id=old))
    await stream.send_commands(2, put("a1"))
    assert (await stream.reply()).HasField("results")
    await stream.send(api_pb2.PipelineRequest(number=3, token=users.tokens[ROOT]))
    assert (await stream.reply()).failure.reason == "INVALID_REQUEST"
    await stream.send_commands(4, put("b1"))
    assert (await stream.reply()).failure.reason == "PERMISSION_DENIED"


async def test_requests_after_a_token_that_a_node_has_not_reached_are_not_unauthenticated(
    server: FakeServer, users: Users
) -> None:
    # Swarm seed 15: the client sends requests behind its newer token, without a wait for a reply.
    secret = bytes(32)
    server.node.run(users.command(signing_key_rotate=auth.SigningKeyRotate(secret=secret)))
    rights = server.node.machine.rights
    app = rights.user_named("app")
    assert app is not None
    token = Authenticator(server.node).session_token(app)
    claims = jwt.decode(token, options={"verify_signature": False})
    ahead = {"applied_index": claims["applied_index"] + 9, "expires_ms": claims["issued_ms"]}
    header = {"kid": jwt.get_unverified_header(token)["kid"]}
    newer = jwt.encode({**claims, **ahead}, secret, algorithm="HS256", headers=header)
    stream = pipeline(server, users.of("app"))
    await stream.send_commands(1, put("a1"))
    assert (await stream.reply()).HasField("results")
    old = next(id for id in rights.tokens if id.hex() in users.tokens["app"])
    users.change(token_revoke=auth.TokenRevoke(id=old))
    await stream.send(api_pb2.PipelineRequest(number=2, token=newer))
    await stream.send_commands(3, put("a1"))
    for reply in (await stream.reply(), await stream.reply()):
        assert reply.failure.reason == "UNAVAILABLE"


async def test_a_pipeline_whose_user_is_deleted_is_answered_without_the_nodes_state(
    server: FakeServer, users: Users
) -> None:
    stream = pipeline(server, users.of("app"))
    await stream.send_commands(1, put("a1"))
    await stream.reply()
    users.change(user_delete=auth.UserDelete(name="app"))
    await stream.send_commands(2, put("a1"))
    await stream.send_reads(3, get("a1"), level=STALE)
    for reply in (await stream.reply(), await stream.reply()):
        assert reply.failure.reason == "UNAUTHENTICATED"
        assert not reply.header.revision


@pytest.mark.parametrize("method", ["Pipeline/Open", "Watch/Open", "Lease/KeepAlive"])
async def test_a_stream_without_a_credential_ends_with_the_reason_and_without_state(
    server: FakeServer, users: Users, method: str
) -> None:
    del users
    stream = server.channel.stream_stream(f"/raftkv.rpc.v1.{method}")(timeout=PATIENCE_S)
    await stream.write(b"")
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    end = read_status(ended.value)
    assert end is not None
    assert isinstance(end.error, Unauthenticated)
    assert end.header is not None
    assert (end.header.node_id, end.header.revision, end.header.term) == (1, 0, 0)


# ---- reads ---------------------------------------------------------------------------


async def test_reads_are_checked_on_the_state_that_is_read_after_the_barrier(
    server: FakeServer, users: Users
) -> None:
    server.node.on_barrier = lambda: users.withdraw("reader")
    for range_ in (get("a1"), ALL_A):
        denied = await failure_of(read(server, range_, users.of("reader")))
        assert isinstance(denied, PermissionDenied)
        users.restore("reader")
    await read(server, ALL_A, users.of("reader"), STALE)  # no barrier: the state before


async def test_a_read_without_rights_fails_alone_in_its_request(
    server: FakeServer, users: Users
) -> None:
    stream = pipeline(server, users.of("reader"))
    await stream.send_reads(1, get("a1"), get("b1"), get("a2"))
    await stream.send_reads(2, ALL_A, kv_pb2.Range(key=b"a", range_end=b"c"))
    for expected in (["", "PERMISSION_DENIED", ""], ["", "PERMISSION_DENIED"]):
        results = (await stream.reply()).reads.results
        assert [each.failure.reason for each in results] == expected


async def test_a_read_that_starts_again_on_an_installed_snapshot_is_checked_there(
    server: FakeServer, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = server.node.machine

    def replaced(_: kv_pb2.Range) -> Any:
        other = type(machine)(machine._store, server.node.settings.limits)
        server.node.machine = other
        users.withdraw("reader")
        yield
        return kv_pb2.Result()

    monkeypatch.setattr(machine, "read", replaced)
    denied = await failure_of(read(server, ALL_A, users.of("reader"), STALE))
    assert isinstance(denied, PermissionDenied)


async def test_a_read_transaction_needs_read_access_to_both_branches(
    server: FakeServer, users: Users
) -> None:
    branch = kv_pb2.Operation(range=get("b1"))
    request = api_pb2.ReadTransactionRequest(transaction=kv_pb2.Transaction(failure=[branch]))
    call = server.kv.ReadTransaction(request, metadata=users.of("reader"))
    assert isinstance(await failure_of(call), PermissionDenied)


# ---- leases --------------------------------------------------------------------------


def grant(server: FakeServer, users: Users, name: str, *keys: str) -> int:
    """A lease of the user, with keys that root has attached."""
    command = kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(ttl_ms=60_000))
    author = users.author(name) if name else Author(0, users.author(ROOT).auth_revision)
    lease = server.node.run(command, author=author).results[0].lease.lease
    server.node.run(*(put(key, lease=lease) for key in keys), author=users.author(ROOT))
    return lease


async def test_a_lease_is_shown_to_its_owner_to_root_and_with_the_right_sessions(
    server: FakeServer, users: Users
) -> None:
    lease = grant(server, users, "app", "a1", "b1")
    unowned = grant(server, users, "")
    request = api_pb2.LeaseTimeToLiveRequest(lease=lease, keys=True)

    async def keys(name: str) -> list[bytes]:
        return list((await server.lease.TimeToLive(request, metadata=users.of(name))).keys)

    async def listed(name: str) -> set[int]:
        reply = await server.lease.List(api_pb2.LeaseListRequest(), metadata=users.of(name))
        return set(reply.leases)

    assert await keys("app") == [b"a1"]
    assert await keys(ROOT) == [b"a1", b"b1"]
    denied = await failure_of(server.lease.TimeToLive(request, metadata=users.of("ops")))
    assert isinstance(denied, PermissionDenied)
    await server.lease.TimeToLive(
        api_pb2.LeaseTimeToLiveRequest(lease=unowned), metadata=users.of("ops")
    )
    assert await listed("app") == await listed(ROOT) == {lease, unowned}
    assert await listed("ops") == {unowned}
    users.give("ops", AdminRight.SESSIONS)
    assert await keys("ops") == []
    assert await listed("ops") == {lease, unowned}


async def test_a_lease_of_another_user_fails_only_the_stream_that_renews_it(
    server: FakeServer, users: Users
) -> None:
    own, foreign = grant(server, users, "app"), grant(server, users, "ops")
    renewals = server.client_server._leases._renewals
    app = users.author("app")
    good, bad, other = await asyncio.gather(
        renewals.renew([own], app),
        renewals.renew([own, foreign], app),
        renewals.renew([foreign], users.author("ops")),
        return_exceptions=True,
    )
    assert (good, other) == (frozenset(), frozenset())
    assert isinstance(bad, PermissionDenied)


# ---- locks ---------------------------------------------------------------------------


async def test_a_wait_for_a_lock_ends_when_the_right_to_read_its_queue_is_withdrawn(
    server: FakeServer, users: Users
) -> None:
    stub = server.channel.unary_unary
    acquire = kv_pb2.Command(acquire=kv_pb2.Acquire(name=b"a", ttl_ms=60_000))
    _, second = (
        server.node.run(acquire, author=users.author(ROOT)).results[0].acquire.token
        for _ in range(2)
    )
    request = api_pb2.LockWaitRequest(name=b"a", token=second).SerializeToString()
    waits = [
        stub("/raftkv.rpc.v1.Lock/Wait")(request, metadata=users.of(name), timeout=PATIENCE_S)
        for name in ("reader", "app")
    ]
    async with asyncio.timeout(PATIENCE_S):
        while server.client_server._locks._waits._calls < 2:  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.01)
    users.withdraw("reader")
    assert isinstance(await failure_of(waits[0]), PermissionDenied)
    assert not waits[1].done()
    users.change(user_delete=auth.UserDelete(name="app"))
    assert isinstance(await failure_of(waits[1]), Unauthenticated)
    denied = await failure_of(
        stub("/raftkv.rpc.v1.Lock/Info")(
            api_pb2.LockInfoRequest(name=b"b").SerializeToString(), metadata=users.of("reader")
        )
    )
    assert isinstance(denied, PermissionDenied)


# ---- administrative calls ------------------------------------------------------------


async def test_administrative_calls_need_the_right_that_the_table_says(
    server: FakeServer, users: Users
) -> None:
    metadata = users.of("ops")
    add = api_pb2.MemberAddRequest(
        member=api_pb2.Member(node_id=2, peer_address="127.0.0.1:1", client_address="127.0.0.1:2")
    )
    level = api_pb2.SetLogLevelRequest(level="info")
    assert isinstance(
        await failure_of(server.cluster.MemberAdd(add, metadata=metadata)), PermissionDenied
    )
    users.give("ops", AdminRight.CLUSTER)
    await server.cluster.MemberAdd(add, metadata=metadata)
    assert isinstance(
        await failure_of(server.cluster.SetLogLevel(level, metadata=metadata)), PermissionDenied
    )
    users.give("ops", AdminRight.MAINTENANCE)
    await server.cluster.SetLogLevel(level, metadata=metadata)


async def test_administrative_calls_are_checked_again_after_their_barrier(
    server: FakeServer, users: Users
) -> None:
    async def transfer() -> None:
        await server.cluster.TransferLeader(
            api_pb2.TransferLeaderRequest(), metadata=users.of("ops")
        )

    server.node.on_barrier = lambda: users.give("ops", AdminRight.CLUSTER)
    await transfer()  # a node that lags does not refuse what was granted before
    server.node.on_barrier = lambda: None
    users.give("ops", AdminRight.AUTH)
    server.node.on_barrier = lambda: users.change(role_delete=auth.RoleDelete(name="ops-auth"))
    listing = server.channel.unary_unary("/raftkv.rpc.v1.Auth/UserList")(
        b"", metadata=users.of("ops")
    )
    assert isinstance(await failure_of(listing), PermissionDenied)


async def test_a_node_may_join_with_a_token_of_a_user_with_the_right(
    server: FakeServer, users: Users
) -> None:
    request = api_pb2.MemberJoinRequest(
        node_id=1, disk_id=1, version_max=3, peer_address="h:1", client_address="h:2"
    )
    for metadata in ((), users.of("app")):
        error = await failure_of(server.cluster.MemberJoin(request, metadata=metadata))
        assert isinstance(error, (Unauthenticated, PermissionDenied))
    users.give("ops", AdminRight.CLUSTER)
    await server.cluster.MemberJoin(request, metadata=users.of("ops"))


async def test_a_user_sees_its_own_roles_and_no_others(server: FakeServer, users: Users) -> None:
    def call(method: str, request: Any) -> Awaitable[Any]:
        stub = server.channel.unary_unary(f"/raftkv.rpc.v1.Auth/{method}")
        made: Awaitable[Any] = stub(request.SerializeToString(), metadata=users.of("app"))
        return made

    await call("UserGet", api_pb2.UserGetRequest(name="app"))
    await call("RoleGet", api_pb2.RoleGetRequest(name="app"))
    for method, request in (
        ("UserGet", api_pb2.UserGetRequest(name="ops")),
        ("RoleGet", api_pb2.RoleGetRequest(name="reader")),
        ("UserSetPassword", api_pb2.UserSetPasswordRequest(name="ops", password="x" * 12)),
        ("UserList", api_pb2.UserListRequest()),
    ):
        assert isinstance(await failure_of(call(method, request)), PermissionDenied)


async def test_a_refusal_is_audited_with_who_and_what_and_without_values(
    server: FakeServer, users: Users
) -> None:
    with capture_logs() as lines:
        await failure_of(execute(server, put("b1", b"secret-value"), users.of("app")))
    (event,) = [line for line in lines if line["event"] == "audit"]
    assert (event["who"], event["what"], event["address"]) == ("app", "KV.Execute", "127.0.0.1")
    assert event["reason"] == "PERMISSION_DENIED"
    assert "secret-value" not in repr(lines)
    assert users.tokens["app"] not in repr(lines)


# ---- what errors reveal --------------------------------------------------------------


@pytest.mark.parametrize("option", ["ignore_value", "ignore_lease"])
async def test_a_put_that_keeps_something_needs_read_access(
    server: FakeServer, users: Users, option: str
) -> None:
    users.change(role_add=auth.RoleAdd(name="writer"))
    users.grant("writer", Access.WRITE, b"a", b"b")
    users.add("writer", "writer")
    keep = kv_pb2.Command(put=kv_pb2.Put(key=b"a1", **{option: True}))  # type: ignore[arg-type]
    assert isinstance(await failure_of(execute(server, keep, users.of("writer"))), PermissionDenied)
    assert isinstance(await failure_of(execute(server, keep, users.of("app"))), errors.KeyNotFound)
