"""Connections by TLS over real gRPC: why a handshake failed, and files that change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest

from raftkv.client.connection.grpc_link import GrpcLink
from raftkv.client.tls import ChannelCredentials, Tls
from raftkv.errors import ConnectionFailed
from tests.client.test_grpc_link import METHOD, Echo, Received
from tests.client.tls_servers import Certificates, serving


@pytest.fixture
def ours(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "ours")


@pytest.fixture
def others(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "others")


@asynccontextmanager
async def linked(port: int, tls: Tls | None, host: str = "127.0.0.1") -> AsyncIterator[GrpcLink]:
    link = GrpcLink(f"{host}:{port}", None if tls is None else ChannelCredentials(tls))
    try:
        yield link
    finally:
        await link.close()


async def refusal(port: int, tls: Tls | None) -> str:
    """Why a call and a stream could not be made; both say the same."""
    async with linked(port, tls) as link:
        with pytest.raises(ConnectionFailed) as caught:
            await link.call(METHOD, b"", 5.0)
        received = Received()
        link.open(received.messages.put_nowait, received.end.set_result)
        end = await received.end
        assert isinstance(end, ConnectionFailed)
        assert end.message == caught.value.message
        return end.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_call_is_answered_by_tls(ours: Certificates, host: str) -> None:
    async with (
        serving(Echo(), ours.node(), ours.ca) as port,
        linked(port, ours.user("alice"), host) as link,
    ):
        assert await link.call(METHOD, b"ping", 5.0) == b"ping"


async def test_a_given_server_name_takes_the_place_of_the_host(ours: Certificates) -> None:
    async with (
        serving(Echo(), ours.node("db.example")) as port,
        linked(port, Tls(ours.ca, server_name="db.example")) as link,
    ):
        assert await link.call(METHOD, b"ping", 5.0) == b"ping"


async def test_an_unknown_ca_is_named(ours: Certificates, others: Certificates) -> None:
    async with serving(Echo(), others.node()) as port:
        why = await refusal(port, Tls(ours.ca))
    assert "its CA is unknown" in why
    assert str(ours.ca) in why
    assert "--cacert" in why


async def test_a_certificate_for_another_name_is_named(ours: Certificates) -> None:
    async with serving(Echo(), ours.node("db.example")) as port:
        why = await refusal(port, Tls(ours.ca))
    assert "is not for the name '127.0.0.1'" in why
    assert "`raftkv certs node --host 127.0.0.1`" in why


async def test_an_expired_certificate_is_named(ours: Certificates) -> None:
    async with serving(Echo(), ours.expired()) as port:
        assert "it has expired" in await refusal(port, Tls(ours.ca))


async def test_a_certificate_of_the_future_is_named(ours: Certificates) -> None:
    files = ours.node(now=ours.now + timedelta(days=2))
    async with serving(Echo(), files) as port:
        assert "it is not valid yet; check the clocks" in await refusal(port, Tls(ours.ca))


async def test_a_user_can_not_pass_for_a_node(ours: Certificates) -> None:
    alice = ours.user("alice")
    async with serving(Echo(), (Path(alice.cert_file), Path(alice.key_file))) as port:
        assert "it is not for servers" in await refusal(port, Tls(ours.ca))


async def test_a_server_of_plaintext_is_named(ours: Certificates) -> None:
    async with serving(Echo(), None) as port:
        assert "does not speak TLS but plaintext" in await refusal(port, Tls(ours.ca))


async def test_a_server_of_tls_is_named_to_a_client_of_plaintext(ours: Certificates) -> None:
    async with serving(Echo(), ours.node()) as port:
        assert f"write raftkvs://127.0.0.1:{port}" in await refusal(port, None)


async def test_a_demanded_client_certificate_is_named(ours: Certificates) -> None:
    async with serving(Echo(), ours.node(), ours.ca) as port:
        why = await refusal(port, Tls(ours.ca))
    assert "most likely it demands a client certificate; give cert_file and key_file" in why


async def test_a_refused_client_certificate_is_named(
    ours: Certificates, others: Certificates
) -> None:
    mallory = others.user("mallory")
    async with serving(Echo(), ours.node(), ours.ca) as port:
        why = await refusal(port, Tls(ours.ca, mallory.cert_file, mallory.key_file))
    assert f"most likely it refuses the client certificate in {mallory.cert_file}" in why


async def test_a_node_that_is_down_is_no_failure_of_tls(ours: Certificates) -> None:
    async with serving(Echo(), ours.node()) as port:
        pass
    assert await refusal(port, Tls(ours.ca)) == f"127.0.0.1:{port} takes no connection"


async def test_each_new_connection_uses_the_files_as_they_are(
    ours: Certificates, others: Certificates
) -> None:
    """The node moves to another CA: the same link follows once its CA file has it."""
    ca = ours.ca
    async with serving(Echo(), ours.node()) as port, linked(port, Tls(ca)) as link:
        assert await link.call(METHOD, b"before", 5.0) == b"before"
    async with linked(port, Tls(ca)) as link:
        async with serving(Echo(), ours.node(), port=port):
            assert await link.call(METHOD, b"before", 5.0) == b"before"
        async with serving(Echo(), others.node(), port=port):
            assert "its CA is unknown" in await failure(link)
            ca.write_bytes(ca.read_bytes() + others.ca.read_bytes())
            assert await link.call(METHOD, b"after", 5.0) == b"after"


async def test_a_renewed_client_certificate_is_used_for_the_next_connection(
    ours: Certificates,
) -> None:
    expired = ours.user("alice", now=ours.now - timedelta(days=3))
    async with serving(Echo(), ours.node(), ours.ca) as port, linked(port, expired) as link:
        assert "refuses the client certificate" in await failure(link)
        assert ours.user("alice") == expired  # the same files, written anew
        assert await link.call(METHOD, b"after", 5.0) == b"after"


async def test_files_that_can_not_be_used_leave_those_before_in_use(
    ours: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    tls = ours.user("alice")
    certificate = Path(tls.cert_file)
    async with linked(1, tls) as link:
        credentials = link._tls
        assert credentials is not None
        before = credentials.current()
        certificate.write_bytes(b"half of a cert")  # noqa: ASYNC240
        for _ in range(3):
            assert credentials.current() is before
        assert [record.name for record in caplog.records] == ["raftkv.client"]
        assert "holds no certificate in PEM" in caplog.text
        ours.user("alice")
        assert credentials.current() is not before


async def test_a_stream_outlives_the_channel_that_new_files_replace(ours: Certificates) -> None:
    """A node that stops in order lets calls end, while the link connects anew."""
    tls = Tls(ours.ca)
    echo = Echo()
    server = grpc.aio.server(handlers=[echo])
    certificate, key = (file.read_bytes() for file in ours.node())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    await server.start()
    async with linked(port, tls) as link, asyncio.timeout(20.0):
        received = Received()
        stream = link.open(received.messages.put_nowait, received.end.set_result)
        stream.send(b"one")
        assert await received.messages.get() == b"one"
        before = link._channel
        stopping = asyncio.create_task(server.stop(10.0))
        while before.get_state() is grpc.ChannelConnectivity.READY:
            await before.wait_for_state_change(grpc.ChannelConnectivity.READY)
        ours.ca.write_bytes(ours.ca.read_bytes() * 2)
        assert "takes no connection" in await failure(link)
        assert link._channel is not before
        del before
        stream.send(b"two")
        assert await received.messages.get() == b"two"
        stream.close()
        await stopping


async def failure(link: GrpcLink) -> str:
    with pytest.raises(ConnectionFailed) as caught:
        await link.call(METHOD, b"", 5.0)
    return caught.value.message
