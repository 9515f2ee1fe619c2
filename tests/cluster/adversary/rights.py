"""Roles and their rights, through the service Auth: nodes alone make its commands."""

from __future__ import annotations

import asyncio

from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, auth_pb2
from tests.cluster.adversary.walk import Steps, Walk

STEPS = Steps()
ROLES = 300
RANGES_OF_ONE_ROLE = 100
AT_ONCE = 50


@STEPS.add
async def many_roles_and_a_role_with_many_ranges(walk: Walk) -> None:
    stub = api_pb2_grpc.AuthStub(walk.channel(walk.followers[0]))  # type: ignore[no-untyped-call]
    walk.asked.add("auth")
    names = [f"{number:03}" * 20 for number in range(ROLES)]
    for first in range(0, ROLES, AT_ONCE):
        adds = [api_pb2.RoleAddRequest(name=name) for name in names[first : first + AT_ONCE]]
        await asyncio.gather(*(walk.ask(stub.RoleAdd, add, read=False) for add in adds))
    for number in range(RANGES_OF_ONE_ROLE):
        start = f"{number:04}".encode() * 1_000
        range_of_keys = auth_pb2.Permission(
            access=auth_pb2.ACCESS_READ, key=start, range_end=start + b"0"
        )
        grant = api_pb2.RoleGrantRequest(role=names[0], permission=range_of_keys)
        await walk.ask(stub.RoleGrant, grant, read=False)
    await walk.ask(stub.RoleList, api_pb2.RoleListRequest(), read=True)
    await walk.ask(stub.RoleGet, api_pb2.RoleGetRequest(name=names[0]), read=True)
