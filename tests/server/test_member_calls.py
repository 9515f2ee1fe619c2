"""Calls of `raftkv.rpc.v1.Cluster` about members, as a generic gRPC client makes them."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from fake_node import FakeServer
from test_unary_services import error_of

from raftkv import errors
from raftkv.node.membership_changes import (
    AddLearner,
    Claim,
    Promote,
    Remove,
    Replace,
    UpdateAddress,
)
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import api_pb2
from raftkv.versions import HASHED, SUPPORTED

DISK = 0xD15C
FOURTH = api_pb2.Member(node_id=4, peer_address="127.0.0.1:7514", client_address="127.0.0.1:7414")


def claim(**fields: Any) -> api_pb2.MemberJoinRequest:
    known = {
        "node_id": 4,
        "disk_id": DISK,
        "version_min": SUPPORTED.minimum,
        "version_max": SUPPORTED.maximum,
        "peer_address": FOURTH.peer_address,
        "client_address": FOURTH.client_address,
    }
    return api_pb2.MemberJoinRequest(**{**known, **fields})


async def add_fourth(server: FakeServer) -> api_pb2.MemberListReply:
    reply: api_pb2.MemberListReply = await server.cluster.MemberAdd(
        api_pb2.MemberAddRequest(member=FOURTH)
    )
    return reply


async def test_a_new_member_is_a_learner_that_has_not_started(server: FakeServer) -> None:
    reply = await add_fourth(server)

    assert [(m.node_id, m.learner, m.started) for m in reply.members] == [
        (1, False, True),
        (4, True, False),
    ]
    assert reply.members[1].client_address == "127.0.0.1:7414"


async def test_a_node_that_starts_claims_its_id_for_its_disk(server: FakeServer) -> None:
    await add_fourth(server)

    for _ in range(2):
        reply = await server.cluster.MemberJoin(claim())
        assert [member.started for member in reply.members] == [True, True]
    code, error = await error_of(server.cluster.MemberJoin(claim(disk_id=DISK + 1)))

    address = Address(FOURTH.peer_address, FOURTH.client_address)
    assert server.node.changes_asked[1] == (Claim(4, DISK, SUPPORTED, address), False)
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "`raftkv member replace 4 5 --peer HOST:PORT --client HOST:PORT`" in error.message


async def test_force_is_passed_to_the_node(server: FakeServer) -> None:
    await server.cluster.MemberAdd(api_pb2.MemberAddRequest(member=FOURTH, force=True))
    await server.cluster.MemberJoin(claim())
    await server.cluster.MemberPromote(api_pb2.MemberPromoteRequest(node_id=4, force=True))
    await server.cluster.MemberRemove(api_pb2.MemberRemoveRequest(node_id=4, force=True))

    fourth = Address(FOURTH.peer_address, FOURTH.client_address)
    asked = [change for change in server.node.changes_asked if not isinstance(change[0], Claim)]
    assert asked == [(AddLearner(4, fourth, True), True), (Promote(4), True), (Remove(4), True)]


@pytest.mark.parametrize("force", [False, True])
async def test_a_member_is_replaced_in_one_call(server: FakeServer, force: bool) -> None:
    await add_fourth(server)
    await server.cluster.MemberJoin(claim())

    reply = await server.cluster.MemberReplace(
        api_pb2.MemberReplaceRequest(old_id=1, new_id=4, force=force)
    )

    assert [(member.node_id, member.learner) for member in reply.members] == [(4, False)]
    assert server.node.changes_asked[-1] == (Replace(1, 4), force)


async def test_a_learner_that_has_not_started_is_waited_for(server: FakeServer) -> None:
    await add_fourth(server)

    code, error = await error_of(
        server.cluster.MemberReplace(api_pb2.MemberReplaceRequest(old_id=1, new_id=4))
    )

    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert error.retry_after_s > 0
    assert error.facts["started"] == "False"


async def test_an_address_that_is_not_given_is_kept(server: FakeServer) -> None:
    moved = api_pb2.Member(node_id=1, client_address="127.0.0.1:7499")

    reply = await server.cluster.MemberUpdate(api_pb2.MemberUpdateRequest(member=moved))

    assert server.node.changes_asked == [(UpdateAddress(1, Address("", "127.0.0.1:7499")), False)]
    assert reply.members[0].peer_address == "127.0.0.1:7511"
    assert reply.members[0].client_address == "127.0.0.1:7499"


A, B = "10.0.0.9:1", "10.0.0.9:2"
BAD_CALLS: dict[str, tuple[str, Any]] = {
    "member.node_id is 0": (
        "MemberAdd",
        api_pb2.MemberAddRequest(member=api_pb2.Member(peer_address=A, client_address=B)),
    ),
    "member.peer_address": (
        "MemberAdd",
        api_pb2.MemberAddRequest(member=api_pb2.Member(node_id=4, client_address=B)),
    ),
    "member.client_address": (
        "MemberAdd",
        api_pb2.MemberAddRequest(
            member=api_pb2.Member(node_id=4, peer_address=A, client_address="a")
        ),
    ),
    "member.peer_address is 0.0.0.0:1": (
        "MemberAdd",
        api_pb2.MemberAddRequest(
            member=api_pb2.Member(node_id=4, peer_address="0.0.0.0:1", client_address=B)
        ),
    ),
    "member.client_address is [::]:1": (
        "MemberUpdate",
        api_pb2.MemberUpdateRequest(member=api_pb2.Member(node_id=1, client_address="[::]:1")),
    ),
    "member has no address": (
        "MemberUpdate",
        api_pb2.MemberUpdateRequest(member=api_pb2.Member(node_id=1)),
    ),
    "new_id is 4, as old_id is": (
        "MemberReplace",
        api_pb2.MemberReplaceRequest(old_id=4, new_id=4),
    ),
    "old_id is 0": ("MemberReplace", api_pb2.MemberReplaceRequest(new_id=4)),
    "disk_id is 0": ("MemberJoin", claim(disk_id=0)),
    "version_min is 2": ("MemberJoin", claim(version_min=2, version_max=1)),
    "client_address is *:1": ("MemberJoin", claim(client_address="*:1")),
}


@pytest.mark.parametrize("said", BAD_CALLS)
async def test_a_call_that_can_never_work_names_the_field(server: FakeServer, said: str) -> None:
    method, request = BAD_CALLS[said]

    code, error = await error_of(getattr(server.cluster, method)(request))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(error, errors.InvalidRequest)
    assert error.message.startswith(said)
    assert not server.node.changes_asked


async def test_an_unknown_member_is_neither_promoted_nor_removed_nor_joined(
    server: FakeServer,
) -> None:
    for call in (
        server.cluster.MemberPromote(api_pb2.MemberPromoteRequest(node_id=9)),
        server.cluster.MemberRemove(api_pb2.MemberRemoveRequest(node_id=9)),
        server.cluster.MemberReplace(api_pb2.MemberReplaceRequest(old_id=1, new_id=9)),
        server.cluster.MemberJoin(claim(node_id=9)),
    ):
        code, error = await error_of(call)

        assert code is grpc.StatusCode.NOT_FOUND
        assert isinstance(error, errors.MemberUnknown)


async def test_status_reports_version_and_problems_of_a_node(server: FakeServer) -> None:
    well = await server.cluster.Status(api_pb2.StatusRequest())
    server.node.not_serving, server.node.notice = "waits for node 2", "tables are damaged"
    ill = await server.cluster.Status(api_pb2.StatusRequest())

    assert (well.cluster_version, well.not_serving, well.notice) == (HASHED, "", "")
    assert (ill.not_serving, ill.notice) == ("waits for node 2", "tables are damaged")
