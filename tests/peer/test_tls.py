"""TLS between nodes: a certificate names the node that may use it, and takes the secret's place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from loopback import Loopback, PeerSide, ending, open_call, stream_to
from structlog.testing import capture_logs

from raftkv.errors import Unavailable
from raftkv.logs import get_logger
from raftkv.peer.founders import ask_founder
from raftkv.peer.handshake import (
    CONNECT,
    HELLO_KEY,
    REASON_KEY,
    SEND_SNAPSHOT,
    encode_hello,
)
from raftkv.peer.ports import FounderStage, Founding, Frame
from raftkv.raft.messages import Heartbeat
from raftkv.tls.deny import DenyList
from raftkv.tls.port import ClientCertificates, PortTls, TlsMode
from raftkv.tls.store import CertificateStore
from tests.tls.authority import NODE, Authority, Issued

BEAT = Heartbeat(1, 2, 4, 0, 1)
REQUIRED, OPTIONAL = TlsMode.REQUIRED, TlsMode.OPTIONAL
WANTED = ClientCertificates.REQUIRED


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


class Nodes:
    """Opens nodes with TLS."""

    def __init__(self, loopback: Loopback, authority: Authority) -> None:
        self.loopback = loopback
        self.authority = authority
        self.issued: dict[int, Issued] = {}
        self.stores: dict[int, CertificateStore] = {}
        self.deny_file = authority.ca_file.with_name("denied")
        self.deny_file.touch()
        self.deny_list = DenyList(str(self.deny_file))

    async def open(self, node_id: int, mode: TlsMode = REQUIRED, secret: bytes = b"") -> PeerSide:
        issued = self.issued[node_id] = self.authority.node(node_id)
        store = CertificateStore(
            self.authority.paths(issued), WANTED.verify_mode, NODE.format(node_id)
        )
        self.stores[node_id] = store
        tls = PortTls(mode, store, WANTED, self.deny_list)
        return await self.loopback.open(node_id, tls=tls, secret=secret)

    def deny(self, issued: Issued) -> None:
        self.deny_file.write_text(f"{issued.serial:x}\n")
        self.deny_list.refresh(get_logger())

    def dial(self, to: int, side: PeerSide, shown: Issued) -> grpc.aio.Channel:
        name = ("grpc.ssl_target_name_override", NODE.format(to))
        options = (name, ("grpc.use_local_subchannel_pool", 1))
        return grpc.aio.secure_channel(side.address, self.authority.channel(shown), options)


@pytest.fixture
def nodes(loopback: Loopback, authority: Authority) -> Iterator[Nodes]:
    return Nodes(loopback, authority)


async def refusal(channel: grpc.aio.Channel, hello: bytes, method: str = CONNECT) -> str:
    call = channel.stream_stream(method)(metadata=((HELLO_KEY, hello),))
    return str((await ending(call))[REASON_KEY])


@pytest.mark.parametrize("mode", [REQUIRED, OPTIONAL])
async def test_nodes_connect_by_their_certificates_whatever_their_secrets_are(
    nodes: Nodes, mode: TlsMode
) -> None:
    one = await nodes.open(1, mode, b"the secret of before")
    two = await nodes.open(2, mode)
    one.connect(two)
    two.connect(one)
    await one.until_connected(2)
    await two.until_connected(1)
    one.links.send(2, Frame((BEAT,)))
    await two.handler.until(lambda: two.handler.messages == [BEAT])
    assert [caller.proven for caller in two.handler.callers] == [True]
    report = Founding(FounderStage.EMPTY, disk_id=1)
    assert (await ask_founder(one.credentials, 2, two.address, report)).disk_id == 2


@pytest.mark.parametrize("method", [CONNECT, SEND_SNAPSHOT])
@pytest.mark.parametrize("mode", [REQUIRED, OPTIONAL])
async def test_a_certificate_lets_only_the_node_in_that_it_names(
    nodes: Nodes, mode: TlsMode, method: str
) -> None:
    one, two = await nodes.open(1, mode), await nodes.open(2, mode)
    authority = nodes.authority
    hello = encode_hello(one.identity, 2)
    with capture_logs() as lines:
        for shown in (
            *(authority.node(3), authority.user("node-1"), authority.node(1, cluster="other")),
        ):
            async with nodes.dial(2, two, shown) as channel:
                assert await refusal(channel, hello, method) == "WRONG_CERTIFICATE"
    line = next(each for each in lines if each["event"] == "peer_refused")
    assert line["reason"] == "WRONG_CERTIFICATE"
    assert "does not name node-1.raftkv.raftkv" in line["details"]
    assert line["caller"].startswith("ipv4:127.0.0.1:")
    assert not two.handler.callers
    async with nodes.dial(2, two, authority.node(1)) as channel:
        await stream_to(channel, one, 2)


@pytest.mark.parametrize("mode", [REQUIRED, OPTIONAL])
async def test_no_connection_without_a_certificate_of_this_clusters_ca(
    nodes: Nodes, mode: TlsMode, tmp_path: Path
) -> None:
    one, two = await nodes.open(1, mode), await nodes.open(2, mode)
    other = Authority(tmp_path / "other").node(1)
    expired = nodes.authority.node(1, days=-0.01)
    for shown in (other, expired):
        async with nodes.dial(2, two, shown) as channel:
            call = channel.stream_stream(CONNECT)(
                metadata=((HELLO_KEY, encode_hello(one.identity, 2)),)
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not two.handler.callers


async def test_a_callee_whose_certificate_names_another_node_gets_no_frames(nodes: Nodes) -> None:
    one, two = await nodes.open(1), await nodes.open(2)
    report = Founding(FounderStage.EMPTY, disk_id=1)
    with pytest.raises(Unavailable, match="Hostname Verification"):
        await ask_founder(one.credentials, 3, two.address, report)
    assert not two.founder.received


@pytest.mark.parametrize("mode", [REQUIRED, OPTIONAL])
async def test_a_denied_certificate_ends_its_stream_and_opens_no_other(
    nodes: Nodes, mode: TlsMode
) -> None:
    one, two = await nodes.open(1, mode), await nodes.open(2, mode)
    hello = encode_hello(one.identity, 2)
    async with nodes.dial(2, two, nodes.issued[1]) as channel:
        stream = await stream_to(channel, one, 2)
        nodes.deny(nodes.issued[1])
        await stream.write(b"")
        assert (await ending(stream))[REASON_KEY] == "WRONG_CERTIFICATE"
        assert await refusal(channel, hello) == "WRONG_CERTIFICATE"
    assert not two.handler.messages
    async with nodes.dial(2, two, nodes.authority.node(1)) as channel:
        await stream_to(channel, one, 2)


async def test_a_link_shows_the_newest_certificate_when_it_connects_again(nodes: Nodes) -> None:
    one, two = await nodes.open(1), await nodes.open(2)
    one.connect(two)
    await one.until_connected(2)
    fresh = nodes.authority.node(1)
    fresh.move_to(nodes.issued[1])
    nodes.stores[1].refresh(get_logger())
    assert one.links.connected == {2}, "a running link stays"
    nodes.deny(nodes.issued[1])
    one.links.send(2, Frame((BEAT,)))  # ends the stream of the denied certificate
    await two.handler.until(lambda: len(two.handler.callers) == 2)


# ---- while a cluster migrates --------------------------------------------------------------


async def test_a_plaintext_node_and_one_with_optional_tls_connect_both_ways(
    nodes: Nodes,
) -> None:
    secret = b"the cluster's own secret"
    one, two = await nodes.open(1, OPTIONAL, secret), await nodes.loopback.open(2, secret=secret)
    with capture_logs() as lines:
        one.connect(two)
        two.connect(one)
        await one.until_connected(2)
        await two.until_connected(1)
    fallen = [line for line in lines if line["event"] == "peer_link_plaintext"]
    assert [(line["node"], line["peer"]) for line in fallen] == [(1, 2)]
    assert all(side.handler.callers[0].proven for side in (one, two))


async def test_with_optional_tls_a_plaintext_caller_needs_the_secret(nodes: Nodes) -> None:
    one = await nodes.loopback.open(1)
    two = await nodes.open(2, OPTIONAL, b"the cluster's own secret")
    async with grpc.aio.insecure_channel(two.address) as channel:
        call, _ = await open_call(channel, encode_hello(one.identity, 2))
        await call.write(b"")
        assert (await ending(call))[REASON_KEY] == "WRONG_SECRET"


async def test_with_required_tls_a_plaintext_caller_is_not_served(nodes: Nodes) -> None:
    one, two = await nodes.loopback.open(1), await nodes.open(2)
    report = Founding(FounderStage.EMPTY, disk_id=1)
    with pytest.raises(Unavailable, match="takes no connection"):
        await ask_founder(one.credentials, 2, two.address, report)
    assert not two.founder.received
