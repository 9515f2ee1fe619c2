"""Real nodes with certificates: a port on a network before there are users, and nodes that join."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_node import Pipeline, get, put
from secured_node import SecuredNode

from jepsen_lite.ports import free_ports
from raftkv.config import Settings
from raftkv.errors import ConfigurationError, Unauthenticated
from raftkv.kv.rights import ROOT
from raftkv.rpc.v1 import api_pb2 as api
from raftkv.rpc.v1 import auth_pb2
from raftkv.server.process import NodeProcess
from tests.tls.authority import Authority, Issued

PASSWORD = "correct horse battery staple"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def settings_of(data_dir: Path, authority: Authority, node_id: int = 1, **changes: Any) -> Settings:
    """A node that listens for clients on every address of this machine."""
    client, peer = free_ports(2)
    own = authority.node(node_id)
    chosen: dict[str, Any] = {
        "client_listen": f"0.0.0.0:{client}",
        "client_cert_file": str(own.cert_file),
        "client_key_file": str(own.key_file),
        "client_ca_file": str(authority.ca_file),
        "client_certificates": "optional",
        "peer_cert_file": str(own.cert_file),
        "peer_key_file": str(own.key_file),
        "peer_ca_file": str(authority.ca_file),
    } | changes
    return Settings(
        node_id=node_id,
        data_dir=data_dir,
        client_advertise=f"127.0.0.1:{client}",
        peer_listen=f"127.0.0.1:{peer}",
        tick_ms=10,
        disk_reserve_bytes=0,
        http_listen="off",
        **chosen,
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[NodeProcess]:
    process = NodeProcess(settings)
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


@asynccontextmanager
async def caller(
    process: NodeProcess, authority: Authority, own: Issued | None = None
) -> AsyncIterator[SecuredNode]:
    """A caller of the node over TLS, with its own certificate or none."""
    async with grpc.aio.secure_channel(
        f"127.0.0.1:{process.client_port}",
        authority.channel(own),
        options=(("grpc.use_local_subchannel_pool", 1),),
    ) as channel:
        yield SecuredNode(process, channel)


async def execute(of: SecuredNode, token: str = "") -> None:
    await of.call("KV", "Execute", api.ExecuteRequest(command=put("a")), token)


async def set_up(with_certificate: SecuredNode) -> str:
    """Add root with a password and enable authentication; returns a session token."""
    await with_certificate.auth("UserAdd", name=ROOT, password=PASSWORD)
    await with_certificate.auth("UserGrantRole", name=ROOT, role=ROOT)
    token = await with_certificate.authenticate()
    await with_certificate.auth("Enable", token)
    return token


async def test_until_authentication_is_enabled_only_certificates_of_users_are_served(
    tmp_path: Path, authority: Authority
) -> None:
    async with (
        running(settings_of(tmp_path / "node", authority)) as process,
        caller(process, authority) as stranger,
        caller(process, authority, authority.node(1)) as node,
        caller(process, authority, authority.user(ROOT)) as root,
    ):
        for other in (stranger, node):
            with pytest.raises(Unauthenticated, match="client certificate of a user"):
                await execute(other)
        await execute(root)
        token = await set_up(root)
        await execute(stranger, token)
        with pytest.raises(Unauthenticated):
            await execute(stranger)
        stream = Pipeline(stranger.channel, (("authorization", f"Bearer {token}"),))
        await stream.send_commands(1, put("a"))
        assert (await stream.reply()).HasField("results")
        await root.auth("Disable", token)
        await stream.send_commands(2, put("a"))
        await stream.send_reads(3, get("a"), level=api.READ_LEVEL_STALE)
        for reply in (await stream.reply(), await stream.reply()):
            assert reply.failure.reason == "UNAUTHENTICATED"


async def test_with_the_flag_for_insecure_networks_the_port_is_open(
    tmp_path: Path, authority: Authority
) -> None:
    settings = settings_of(tmp_path / "node", authority, allow_insecure_network=True)
    async with running(settings) as process, caller(process, authority) as stranger:
        await execute(stranger)


async def test_a_node_joins_with_its_own_certificate_and_not_with_that_of_another(
    tmp_path: Path, authority: Authority
) -> None:
    async with running(settings_of(tmp_path / "1", authority)) as process:
        second = settings_of(tmp_path / "2", authority, 2, join=f"127.0.0.1:{process.client_port}")
        async with (
            caller(process, authority, authority.user(ROOT)) as root,
            caller(process, authority, authority.node(3)) as third,
        ):
            token = await set_up(root)
            await add_member(root, second, token)
            join = api.MemberJoinRequest(
                node_id=2, disk_id=7, version_max=3, peer_address=second.peer_advertise,
                client_address=second.client_advertise,
            )  # fmt: skip
            with pytest.raises(Unauthenticated):
                await third.call("Cluster", "MemberJoin", join)
            with pytest.raises(Unauthenticated):
                await third.call("Cluster", "TransferLeader", api.TransferLeaderRequest())
            await third.call("Cluster", "MemberList", api.MemberListRequest())
            async with running(second):
                members = await root.call("Cluster", "MemberList", api.MemberListRequest(), token)
                assert [member.started for member in members.members] == [True, True]


async def add_member(root: SecuredNode, settings: Settings, token: str) -> None:
    member = api.Member(
        node_id=settings.node_id,
        peer_address=settings.peer_advertise,
        client_address=settings.client_advertise,
    )
    await root.call("Cluster", "MemberAdd", api.MemberAddRequest(member=member), token)


async def test_a_node_without_a_certificate_joins_with_the_token_of_a_user_with_the_right(
    tmp_path: Path,
) -> None:
    def plain(node_id: int, **changes: Any) -> Settings:
        client, peer = (f"127.0.0.1:{port}" for port in free_ports(2))
        return Settings(
            node_id=node_id, data_dir=tmp_path / str(node_id), client_listen=client,
            peer_listen=peer, http_listen="off", tick_ms=10, disk_reserve_bytes=0, **changes,
        )  # fmt: skip

    first = plain(1)
    async with running(first) as process, grpc.aio.insecure_channel(first.client_listen) as channel:
        root = SecuredNode(process, channel)
        token = await set_up(root)
        second = plain(2, join=first.client_listen)
        await add_member(root, second, token)
        with pytest.raises(ConfigurationError, match="join_token_file"):
            await NodeProcess(second).start()
        await root.auth("UserAdd", token, name="joiner", password=PASSWORD)
        file = tmp_path / "token"
        file.touch(0o600)
        file.write_text((await root.auth("TokenCreate", token, user="joiner")).token + "\n")
        with_token = plain(
            2, join=first.client_listen, join_token_file=str(file),
            peer_advertise=second.peer_advertise, client_advertise=second.client_advertise,
        )  # fmt: skip
        with pytest.raises(ConfigurationError, match="right cluster"):
            await NodeProcess(with_token).start()
        await root.auth("RoleAdd", token, name="joins")
        await root.auth("RoleGrant", token, role="joins", admin_right=auth_pb2.ADMIN_RIGHT_CLUSTER)
        await root.auth("UserGrantRole", token, name="joiner", role="joins")
        file.chmod(0o644)
        with pytest.raises(ConfigurationError, match="chmod"):
            await NodeProcess(with_token).start()
        file.chmod(0o600)
        async with running(with_token):
            members = await root.call("Cluster", "MemberList", api.MemberListRequest(), token)
            assert [member.started for member in members.members] == [True, True]
