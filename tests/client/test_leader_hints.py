"""A call that only the leader accepts reaches a leader that the client was not given."""

from __future__ import annotations

import asyncio
from random import Random

from raftkv.client.authentication import Authentication
from raftkv.client.connection.endpoints import Endpoints
from raftkv.client.connection.unary import STATUS, UnaryRequests
from raftkv.client.credentials import UserCredentials
from raftkv.client.settings import ClientSettings
from raftkv.errors import ConnectionFailed, NotLeader
from raftkv.rpc.v1 import api_pb2

LEADER = "d:1"


class ScriptedEndpoint:
    """A node that takes calls only if it leads."""

    def __init__(self, address: str, asked: list[str]) -> None:
        self._address = address
        self._asked = asked

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        if method == STATUS:
            return api_pb2.StatusReply().SerializeToString()
        self._asked.append(self._address)
        if self._address != LEADER:
            raise NotLeader("not me", leader_id=4, leader_address=LEADER)
        return api_pb2.MemberListReply().SerializeToString()


async def test_a_hint_leads_to_a_leader_that_the_client_was_not_given() -> None:
    asked: list[str] = []
    settings, rng = ClientSettings(), Random(1)
    endpoints = Endpoints(
        ["a:1", "b:1", "c:1"],
        lambda address: ScriptedEndpoint(address, asked),  # type: ignore[arg-type, return-value]
        settings,
        rng,
    )
    loop = asyncio.get_running_loop()
    authentication = Authentication(UserCredentials(), settings, rng, loop)
    unary = UnaryRequests(endpoints, settings, rng, loop, authentication)
    await unary.call(
        "/raftkv.rpc.v1.Cluster/MemberRemove",
        api_pb2.MemberRemoveRequest(node_id=1),
        api_pb2.MemberListReply,
        1.0,
        changes=True,
    )
    assert asked[1:] == [LEADER]


class DeadEndpoint(ScriptedEndpoint):
    """An endpoint that accepts no connection, unless it is the leader's."""

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        if self._address != LEADER:
            self._asked.append(self._address)
            raise ConnectionFailed(f"{self._address} takes no connection")
        return await super().call(method, request, timeout_s)


async def test_the_only_live_node_is_called_after_each_dead_one_once() -> None:
    """jepsen-lite seed 77: two dead nodes that the client was given took turns for ever."""
    asked: list[str] = []
    settings, rng = ClientSettings(), Random(1)
    endpoints = Endpoints(
        ["a:1", "b:1", "c:1"],
        lambda address: DeadEndpoint(address, asked),  # type: ignore[arg-type, return-value]
        settings,
        rng,
    )
    endpoints.learn([LEADER])
    loop = asyncio.get_running_loop()
    authentication = Authentication(UserCredentials(), settings, rng, loop)
    unary = UnaryRequests(endpoints, settings, rng, loop, authentication)
    await unary.call(
        "/raftkv.rpc.v1.Cluster/MemberList",
        api_pb2.MemberListRequest(),
        api_pb2.MemberListReply,
        5.0,
    )
    assert sorted(asked) == ["a:1", "b:1", "c:1", LEADER]


class MovingEndpoint(ScriptedEndpoint):
    """A node of a cluster whose members are all replaced after the first change."""

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        if self._address != LEADER and self._asked:
            raise ConnectionFailed(f"{self._address} takes no connection")
        if method == STATUS:
            member = api_pb2.Member(node_id=4, client_address=LEADER)
            return api_pb2.StatusReply(members=[member]).SerializeToString()
        self._asked.append(self._address)
        return api_pb2.MemberListReply().SerializeToString()


async def test_a_client_whose_calls_are_all_unary_follows_the_members() -> None:
    """jepsen-lite seed 272: it knew none of the members once the given ones had been replaced."""
    asked: list[str] = []
    settings, rng = ClientSettings(), Random(1)
    endpoints = Endpoints(
        ["a:1"],
        lambda address: MovingEndpoint(address, asked),  # type: ignore[arg-type, return-value]
        settings,
        rng,
    )
    loop = asyncio.get_running_loop()
    authentication = Authentication(UserCredentials(), settings, rng, loop)
    unary = UnaryRequests(endpoints, settings, rng, loop, authentication)
    for _ in range(2):
        await unary.call(
            "/raftkv.rpc.v1.Cluster/MemberRemove",
            api_pb2.MemberRemoveRequest(node_id=1),
            api_pb2.MemberListReply,
            2.0,
            changes=True,
        )
    assert asked == ["a:1", LEADER]
