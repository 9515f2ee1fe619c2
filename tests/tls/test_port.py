"""A gRPC port in each mode: who is served, how the caller is reported, what strangers occupy."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from raftkv.logs import get_logger
from raftkv.tls import listener
from raftkv.tls.certificates import (
    certificate_of,
    is_encrypted,
    node_of_certificate,
    real_peer,
    user_of_certificate,
)
from raftkv.tls.port import ClientCertificates, GrpcPort, PortTls, TlsMode
from raftkv.tls.store import CertificateStore
from tests.tls.authority import Authority

PATIENCE_S = 20.0
HANDSHAKE_S = 0.3


async def who(_: bytes, context: Any) -> bytes:
    """Whom the port takes the caller for."""
    certificate = certificate_of(context)
    facts = (
        is_encrypted(context),
        certificate.serial if certificate else None,
        user_of_certificate(context),
        node_of_certificate(context, "raftkv"),
        real_peer(context),
    )
    return repr(facts).encode()


async def echo(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


class Port:
    def __init__(self, directory: Path, tls: str, certificates: str, connections: int) -> None:
        self.authority = Authority(directory)
        self.issued = self.authority.node(1)
        wanted = ClientCertificates(certificates)
        self.store = CertificateStore(
            self.authority.paths(self.issued, "client"), wanted.verify_mode
        )
        methods = {
            "who": grpc.unary_unary_rpc_method_handler(who),
            "echo": grpc.stream_stream_rpc_method_handler(echo),
        }
        options = (("grpc.server_handshake_timeout_ms", int(HANDSHAKE_S * 1000)),)
        self.tls = PortTls(TlsMode(tls), self.store, wanted)
        self.server = GrpcPort(
            "client",
            grpc.method_handlers_generic_handler("s", methods),
            options,
            self.tls,
            descriptors_max=connections * (3 if self.tls.relayed else 1),
        )
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def channel(self, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
        # A connection of its own for each.
        options = (("grpc.use_local_subchannel_pool", 1),)
        if credentials is None:
            return grpc.aio.insecure_channel(self.address, options=options)
        return grpc.aio.secure_channel(self.address, credentials, options=options)

    async def who(self, credentials: grpc.ChannelCredentials | None) -> Any:
        async with self.channel(credentials) as channel:
            call: Callable[..., Any] = channel.unary_unary("/s/who")
            try:
                reply = await call(b"", timeout=PATIENCE_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return None
        *facts, peer = eval(reply)
        assert peer.startswith("ipv4:127.0.0.1:")
        return tuple(facts)


@asynccontextmanager
async def opened(
    directory: Path, tls: str, certificates: str, connections: int = 100
) -> AsyncIterator[Port]:
    port = Port(directory, tls, certificates, connections)
    port.port = await port.server.start("127.0.0.1:0")
    try:
        yield port
    finally:
        await port.server.stop()


MODES = [
    ("off", "none"),
    ("required", "none"),
    ("required", "optional"),
    ("required", "required"),
    ("optional", "none"),
    ("optional", "optional"),
    ("optional", "required"),
]
RELAYED = [("required", "optional"), ("optional", "none")]
SERVED_BY_EACH = [("required", "none"), *RELAYED]


@pytest.mark.parametrize(("tls", "certificates"), MODES)
async def test_a_port_serves_and_reports_those_callers_that_its_mode_has(
    tmp_path: Path, tls: str, certificates: str
) -> None:
    async with opened(tmp_path, tls, certificates) as port:
        bob, two = port.authority.user("bob"), port.authority.node(2)
        stranger = Authority(tmp_path / "other", "other").user("bob")
        trusting = port.authority
        in_plaintext = (False, None, None, None) if tls != "required" else None
        assert await port.who(None) == in_plaintext
        anonymous = (True, None, None, None)
        served = tls != "off"
        wanted = certificates != "none"
        assert await port.who(trusting.channel()) == (
            anonymous if served and certificates != "required" else None
        )
        for issued, named in ((bob, ("bob", None)), (two, (None, 2))):
            facts = (True, issued.serial, *named) if wanted else anonymous
            assert await port.who(trusting.channel(issued)) == (facts if served else None)
        # A certificate of another CA is never taken for none.
        refused = None if wanted or not served else anonymous
        assert await port.who(trusting.channel(stranger)) == refused


@pytest.mark.parametrize(("tls", "certificates"), SERVED_BY_EACH)
async def test_new_connections_use_new_certificates_and_streams_stay(
    tmp_path: Path, tls: str, certificates: str
) -> None:
    async with opened(tmp_path, tls, certificates) as port:
        old, new = port.authority, Authority(tmp_path / "new", "new")
        async with port.channel(old.channel()) as channel:
            stream: Any = channel.stream_stream("/s/echo")()
            await stream.write(b"before")
            assert await stream.read() == b"before"
            new.node(1).move_to(port.issued)
            port.store.refresh(get_logger())
            await stream.write(b"after")
            assert await stream.read() == b"after"
            assert await port.who(old.channel()) is None
            assert await port.who(new.channel())
            stream.cancel()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize(("tls", "certificates"), SERVED_BY_EACH)
async def test_tls_1_2_and_1_3_are_spoken_and_nothing_older(
    tmp_path: Path, tls: str, certificates: str
) -> None:
    async with opened(tmp_path, tls, certificates) as port:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert await asyncio.to_thread(spoken, port, version) == version.name.replace("_", ".")
        assert await asyncio.to_thread(spoken, port, ssl.TLSVersion.TLSv1_1) is None


def spoken(port: Port, version: ssl.TLSVersion) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=port.authority.pem.decode())
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    try:
        with (
            socket.create_connection(("127.0.0.1", port.port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            return connection.version()
    except (ssl.SSLError, ConnectionError):
        return None


# ---- strangers ----------------------------------------------------------------------------

CLIENT_HELLO_BEGUN = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(CLIENT_HELLO_BEGUN, id="half a ClientHello"),
        pytest.param(b"\x16" + bytes(range(256)) * 8, id="garbage as TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n", id="half a preface"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="HTTP/1"),
    ],
)
@pytest.mark.parametrize(("tls", "certificates"), SERVED_BY_EACH)
async def test_a_connection_that_completes_no_handshake_is_closed(
    tmp_path: Path, tls: str, certificates: str, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE_TIMEOUT_S", HANDSHAKE_S)
    async with opened(tmp_path, tls, certificates) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE_S):
            try:
                while await reader.read(4096):
                    pass
            except ConnectionError:
                pass
        writer.close()
        assert await port.who(port.authority.channel())


@pytest.mark.parametrize(("tls", "certificates"), RELAYED)
async def test_connections_above_the_bound_are_closed_and_their_slots_are_freed(
    tmp_path: Path, tls: str, certificates: str
) -> None:
    async with opened(tmp_path, tls, certificates, connections=2) as port:
        trusting = port.authority.channel()
        idle = [await asyncio.open_connection("127.0.0.1", port.port) for _ in range(2)]
        for _, writer in idle:
            writer.write(CLIENT_HELLO_BEGUN)
        assert await port.who(trusting) is None
        for _, writer in idle:
            writer.close()
        async with asyncio.timeout(PATIENCE_S):
            while await port.who(trusting) is None:  # noqa: ASYNC110 - no event for a free slot
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(("tls", "certificates"), RELAYED)
async def test_a_caller_that_does_not_read_is_no_longer_read_itself(
    tmp_path: Path, tls: str, certificates: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in the listener is bounded, however much both sides send."""
    monkeypatch.setattr(listener, "BUFFER_BYTES_MAX", 1 << 10)
    async with opened(tmp_path, tls, certificates) as port:
        credentials = port.authority.channel() if tls == "required" else None
        async with port.channel(credentials) as channel:
            stream: Any = channel.stream_stream("/s/echo")()
            sent = [bytes([number]) * (100 << 10) for number in range(60)]

            async def write_all() -> None:
                for data in sent:
                    await stream.write(data)
                await stream.done_writing()

            writing = asyncio.create_task(write_all())
            received = [await stream.read() for _ in sent]
            await writing
            assert received == sent
            assert await stream.read() is grpc.aio.EOF


async def test_only_the_listener_reaches_the_server_behind_it(tmp_path: Path) -> None:
    async with opened(tmp_path, "required", "optional") as port:
        assert port.server._relay is not None
        path = port.server._relay.inner_address.removeprefix("unix:")
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        assert os.stat(os.path.dirname(path)).st_mode & 0o077 == 0
    assert not os.path.exists(path)  # noqa: ASYNC240


async def test_a_refused_caller_is_logged_with_its_address(
    tmp_path: Path,
) -> None:
    with capture_logs() as lines:
        async with opened(tmp_path, "required", "optional") as port:
            assert await port.who(None) is None
    refused = [line for line in lines if line["event"] == "connection_refused"]
    assert refused[0]["caller"].startswith("ipv4:127.0.0.1:")
    assert refused[0]["reason"] == "the caller does not speak TLS"
