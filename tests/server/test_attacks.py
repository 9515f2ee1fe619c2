"""What an attacker tries at the client port. `docs/security.md` has a row for each attempt."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from fake_node import PATIENCE_S, FakeServer, Pipeline, put
from users import Users, authorization

from raftkv.errors import InvalidRequest, PermissionDenied, RaftkvError, Unauthenticated
from raftkv.kv.rights import ROOT, AdminRight
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.rpc.v1 import auth_pb2 as auth
from raftkv.wire.failures import error_of
from raftkv.wire.grpc_status import error_of_call

SECRET = "the secret of b"
ABSENT = b"b/absent"
PRESENT = b"b/present"
METADATA_BYTES_MAX = 8 << 10


@pytest.fixture
def users(server: FakeServer) -> Users:
    """`app` may read and write [a, b). The secret is at a key in [b, c), as is a lock of root's."""
    made = Users(server.node)
    acquire = kv_pb2.Command(acquire=kv_pb2.Acquire(name=PRESENT, ttl_ms=60_000))
    server.node.run(
        put(PRESENT.decode(), SECRET.encode()), put("a1"), acquire, author=made.author(ROOT)
    )
    return made


Call = Callable[[FakeServer, bytes, Any], Awaitable[Any]]


async def refusal_of(call: Awaitable[Any]) -> RaftkvError:
    """The error with which a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        async with asyncio.timeout(PATIENCE_S):
            await call
    error = error_of_call(ended.value)
    assert error is not None, ended.value
    return error


async def execute(server: FakeServer, command: kv_pb2.Command, metadata: Any) -> Any:
    return await server.kv.Execute(api_pb2.ExecuteRequest(command=command), metadata=metadata)


def executed(command: Callable[[bytes], kv_pb2.Command]) -> Call:
    return lambda server, key, metadata: execute(server, command(key), metadata)


def ranged(**fields: Any) -> Call:
    """A read by `KV.Range`; `level` is that of the request."""
    level = fields.pop("level", api_pb2.READ_LEVEL_LINEARIZABLE)

    def read(server: FakeServer, key: bytes, metadata: Any) -> Awaitable[Any]:
        chosen = kv_pb2.Range(**{"key": key, **fields})
        request = api_pb2.RangeRequest(range=chosen, level=level)
        call: Awaitable[Any] = server.kv.Range(request, metadata=metadata)
        return call

    return read


def read_transaction(make: Callable[[bytes], kv_pb2.Transaction]) -> Call:
    def read(server: FakeServer, key: bytes, metadata: Any) -> Awaitable[Any]:
        request = api_pb2.ReadTransactionRequest(transaction=make(key))
        call: Awaitable[Any] = server.kv.ReadTransaction(request, metadata=metadata)
        return call

    return read


def locked(method: str, request: Callable[[bytes], Any]) -> Call:
    def call(server: FakeServer, key: bytes, metadata: Any) -> Awaitable[Any]:
        stub = server.channel.unary_unary(f"/raftkv.rpc.v1.Lock/{method}")
        made: Awaitable[Any] = stub(request(key).SerializeToString(), metadata=metadata)
        return made

    return call


async def pipelined(server: FakeServer, key: bytes, metadata: Any) -> None:
    """A read in a pipeline; its failure is raised as that of a call."""
    stream = Pipeline(server.channel, metadata)
    await stream.send_reads(1, kv_pb2.Range(key=key))
    failure = (await stream.reply()).reads.results[0].failure
    stream.call.cancel()
    raise error_of(failure)


async def watched(server: FakeServer, key: bytes, metadata: Any, end: bytes = b"") -> None:
    """A watch of the key's history; its failure is raised as that of a call."""
    stream = server.channel.stream_stream("/raftkv.rpc.v1.Watch/Open")(metadata=metadata)
    create = api_pb2.WatchCreate(watch_id=1, key=key, range_end=end, start_revision=2, prev_kv=True)
    await stream.write(api_pb2.WatchRequest(creates=[create]).SerializeToString())
    async with asyncio.timeout(PATIENCE_S):
        reply = api_pb2.WatchReply.FromString(await stream.read())
    stream.cancel()
    (news,) = reply.news
    raise error_of(news.ended)


def compare(key: bytes) -> kv_pb2.Compare:
    return kv_pb2.Compare(key=key, version=1)


def of_range(key: bytes) -> kv_pb2.Operation:
    return kv_pb2.Operation(range=kv_pb2.Range(key=key))


def transaction(**fields: Any) -> kv_pb2.Command:
    return kv_pb2.Command(transaction=kv_pb2.Transaction(**fields))


OWN = kv_pb2.Operation(put=kv_pb2.Put(key=b"a1", value=b"own"))

READS: dict[str, Call] = {
    "range": ranged(),
    "count": ranged(count_only=True),
    "keys only": ranged(keys_only=True),
    "stale read": ranged(level=api_pb2.READ_LEVEL_STALE),
    "session read": ranged(level=api_pb2.READ_LEVEL_SESSION),
    "lease read": ranged(level=api_pb2.READ_LEVEL_LEADER_LEASE),
    "old revision": ranged(revision=2),
    "range from an own key over it": ranged(key=b"a1", range_end=b"c"),
    "range without an end": ranged(key=b"a1", range_end=b"\0"),
    "compare": executed(lambda key: transaction(compare=[compare(key)], success=[OWN])),
    "branch that is taken": executed(lambda key: transaction(success=[of_range(key)])),
    "branch that is not taken": executed(lambda key: transaction(failure=[of_range(key)])),
    "compare of a read transaction": read_transaction(
        lambda key: kv_pb2.Transaction(compare=[compare(key)])
    ),
    "branch of a read transaction": read_transaction(
        lambda key: kv_pb2.Transaction(failure=[of_range(key)])
    ),
    "transaction in a transaction": executed(
        lambda key: transaction(
            failure=[kv_pb2.Operation(transaction=kv_pb2.Transaction(compare=[compare(key)]))]
        )
    ),
    "previous value of a put": executed(lambda key: put(key.decode(), prev_kv=True)),
    "compare and swap": executed(
        lambda key: kv_pb2.Command(
            compare_and_swap=kv_pb2.CompareAndSwap(key=key, mod_revision=99, new_value=b"x")
        )
    ),
    "value kept by a put": executed(lambda key: put(key.decode(), b"", ignore_value=True)),
    "previous values of a deletion": executed(
        lambda key: kv_pb2.Command(delete_range=kv_pb2.DeleteRange(key=key, prev_kv=True))
    ),
    "fence": executed(
        lambda key: kv_pb2.Command(
            put=kv_pb2.Put(key=b"a1"), fences=[kv_pb2.Fence(name=key, token=1)]
        )
    ),
    "queue of a lock": locked("Info", lambda key: api_pb2.LockInfoRequest(name=key)),
    "wait for a lock": locked("Wait", lambda key: api_pb2.LockWaitRequest(name=key, token=1)),
    "read in a pipeline": pipelined,
    "watch": watched,
    "watch without an end": lambda server, key, metadata: watched(
        server, b"a1" if key == PRESENT else b"a2", metadata, b"\0"
    ),
}


@pytest.mark.parametrize("way", READS)
async def test_nothing_is_read_without_the_right_and_no_refusal_says_what_is_there(
    server: FakeServer, users: Users, way: str
) -> None:
    revision = server.node.machine.revision
    texts = []
    for key in (PRESENT, ABSENT):
        refused = await refusal_or_failure(READS[way](server, key, users.of("app")))
        assert isinstance(refused, PermissionDenied)
        said = f"{refused} {refused.facts}"
        assert SECRET not in said
        texts.append(said.replace(key.decode(), "KEY").replace("b/present", "KEY"))
    assert re.sub(r"a[12]", "a", texts[0]) == re.sub(r"a[12]", "a", texts[1])
    assert server.node.machine.revision == revision


async def refusal_or_failure(call: Awaitable[Any]) -> RaftkvError:
    """The error of a call, or of what a stream has answered."""
    try:
        return await refusal_of(call)
    except RaftkvError as failure:
        return failure


def lease_of_root(server: FakeServer, users: Users) -> int:
    command = kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(ttl_ms=60_000))
    (result,) = server.node.run(command, author=users.author(ROOT)).results
    return int(result.lease.lease)


DELETE = kv_pb2.DeleteRange
WRITES: dict[str, kv_pb2.Command] = {
    "put": put("b1"),
    "deletion over the end": kv_pb2.Command(delete_range=DELETE(key=b"a", range_end=b"b\0")),
    "deletion without an end": kv_pb2.Command(delete_range=DELETE(key=b"a", range_end=b"\0")),
    "deletion of everything": kv_pb2.Command(delete_range=DELETE(key=b"\0", range_end=b"\0")),
    "branch that is not taken": transaction(
        compare=[compare(b"a1")], success=[OWN], failure=[kv_pb2.Operation(put=put("b1").put)]
    ),
    "a place in another's queue": kv_pb2.Command(
        acquire=kv_pb2.Acquire(name=b"b/lock", ttl_ms=1_000)
    ),
    "a key of the queue itself": put("b/lock/0000000000000001"),
    "compaction": kv_pb2.Command(compact=kv_pb2.Compact(revision=2)),
}


@pytest.mark.parametrize("way", WRITES)
@pytest.mark.parametrize("checked", ["when it arrives", "when it is applied"])
async def test_nothing_is_written_without_the_right(
    server: FakeServer, users: Users, way: str, checked: str
) -> None:
    revision = server.node.machine.revision
    if checked == "when it arrives":
        assert isinstance(
            await refusal_of(execute(server, WRITES[way], users.of("app"))), PermissionDenied
        )
        assert not server.node.submitted
    else:  # the rights have changed since a node has checked it
        author = users.author("app")._replace(auth_revision=users.author("app").auth_revision - 1)
        (result,) = server.node.run(WRITES[way], author=author).results
        assert result.failure.reason == "PERMISSION_DENIED"
    assert server.node.machine.revision == revision


@pytest.mark.parametrize("way", ["attach", "attach to a lock", "renew", "revoke", "keep alive"])
async def test_the_lease_of_another_user_can_not_be_used(
    server: FakeServer, users: Users, way: str
) -> None:
    lease = lease_of_root(server, users)
    command = {
        "attach": put("a2", lease=lease),
        "attach to a lock": kv_pb2.Command(acquire=kv_pb2.Acquire(name=b"a", lease=lease)),
        "renew": kv_pb2.Command(lease_renew=kv_pb2.LeaseRenew(lease=lease)),
        "revoke": kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=lease)),
        "keep alive": kv_pb2.Command(lease_keep_alive=kv_pb2.LeaseKeepAlive(leases=[lease])),
    }[way]
    server.node.run(put("a3"), author=users.author(ROOT))  # a millisecond passes
    (left_ms, _) = server.node.machine.lease_time_to_live(lease) or (0, 0)
    refused = await refusal_of(execute(server, command, users.of("app")))
    assert isinstance(refused, (PermissionDenied, InvalidRequest))
    (still_left_ms, _) = server.node.machine.lease_time_to_live(lease) or (0, 0)
    assert 0 < still_left_ms <= left_ms < 60_000


async def test_the_session_of_another_user_can_not_be_used(
    server: FakeServer, users: Users
) -> None:
    batch = kv_pb2.CommandBatch(
        commands=[put("a1", b"stolen")], session=lease_of_root(server, users), sequence=1
    )
    stream = Pipeline(server.channel, users.of("app"))
    await stream.send(api_pb2.PipelineRequest(number=1, commands=batch.SerializeToString()))
    reply = await stream.reply()
    failure = kv_pb2.BatchResult.FromString(reply.results).failure or reply.failure
    assert failure.reason == "PERMISSION_DENIED"


COMMANDS_ON_USERS = [
    auth.AuthCommand(user_grant_role=auth.UserGrantRole(name="app", role=ROOT)),
    auth.AuthCommand(root_reset=auth.RootReset(password_hash="x")),
    auth.AuthCommand(disable=auth.AuthDisable()),
]


@pytest.mark.parametrize("command", COMMANDS_ON_USERS, ids=lambda each: each.WhichOneof("command"))
@pytest.mark.parametrize("name", ["app", ROOT])
async def test_a_command_on_users_is_no_command_of_clients(
    server: FakeServer, users: Users, command: auth.AuthCommand, name: str
) -> None:
    sent = kv_pb2.Command(auth=command)
    refused = await refusal_of(execute(server, sent, users.of(name)))
    assert isinstance(refused, InvalidRequest)
    stream = Pipeline(server.channel, users.of(name))
    await stream.send_commands(1, sent)
    assert (await stream.reply()).failure.reason == "INVALID_REQUEST"
    assert not server.node.submitted


TO_ROOT = {
    "the role root for itself": Users.command(
        user_grant_role=auth.UserGrantRole(name="ops", role=ROOT)
    ),
    "the right auth in another role": Users.command(
        role_grant=auth.RoleGrant(role="app", admin_right=auth.ADMIN_RIGHT_AUTH)
    ),
    "root's password": Users.command(
        user_set_password=auth.UserSetPassword(name=ROOT, password_hash="x")
    ),
    "a token of root": Users.command(
        token_create=auth.TokenCreate(id=b"t" * 8, user=ROOT, secret_hash=bytes(32))
    ),
    "another user called root": Users.command(user_delete=auth.UserDelete(name=ROOT)),
    "root without its role": Users.command(
        user_revoke_role=auth.UserRevokeRole(name=ROOT, role=ROOT)
    ),
    "another role called root": Users.command(role_delete=auth.RoleDelete(name=ROOT)),
    "more rights for the role root": Users.command(
        role_grant=auth.RoleGrant(role=ROOT, admin_right=auth.ADMIN_RIGHT_CLUSTER)
    ),
    "a key that signs": Users.command(signing_key_rotate=auth.SigningKeyRotate(secret=b"k" * 32)),
    "no authentication": Users.command(disable=auth.AuthDisable()),
}


@pytest.mark.parametrize("way", TO_ROOT)
async def test_who_administers_users_does_not_become_root_or_change_its_users(
    server: FakeServer, users: Users, way: str
) -> None:
    users.give("ops", AdminRight.AUTH)
    before = server.node.machine.rights
    (result,) = server.node.run(TO_ROOT[way], author=users.author("ops")).results
    assert result.failure.reason in ("PERMISSION_DENIED", "REFUSED")
    assert server.node.machine.rights == before


@pytest.mark.parametrize(
    "metadata",
    [
        (("user", ROOT),),
        (("authorization", ROOT),),
        (("authorization", f"Basic {ROOT}"),),
        (("authorization", "Bearer"),),
        (("x-forwarded-client-cert", "Subject=CN=root"), ("x-remote-user", ROOT)),
    ],
    ids=str,
)
async def test_metadata_that_name_a_user_prove_nothing(
    server: FakeServer, users: Users, metadata: Any
) -> None:
    refused = await refusal_of(execute(server, put("a1"), metadata))
    assert isinstance(refused, Unauthenticated)
    assert isinstance(
        await refusal_of(execute(server, put("b1"), (*users.of("app"), *metadata))),
        (PermissionDenied, Unauthenticated),
    )


async def test_huge_metadata_end_their_call_only(server: FakeServer, users: Users) -> None:
    for metadata in (authorization("x" * METADATA_BYTES_MAX * 8), authorization("x" * 5_000)):
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await execute(server, put("a1"), metadata)
        assert ended.value.code() in (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.UNAUTHENTICATED,
        )
    await execute(server, put("a1"), users.of("app"))
