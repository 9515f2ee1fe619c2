"""The bounds of the HTTP port: connections, requests a second, and the time of an exchange."""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from serving import get, report, serving

from raftkv.http import server
from raftkv.http.report import PublishedReport
from raftkv.logs import RateLimited, get_logger

REQUEST = b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n"


def open_connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def test_further_connections_wait_until_one_ends() -> None:
    with serving(PublishedReport(report())) as port, ExitStack() as stack:
        idle = [stack.enter_context(open_connection(port)) for _ in range(server.CONNECTIONS_MAX)]
        for each in idle:
            each.sendall(REQUEST)
            assert each.recv(1000).startswith(b"HTTP/1.1 200")
        waits = stack.enter_context(open_connection(port))
        waits.sendall(REQUEST)
        waits.settimeout(0.2)
        with pytest.raises(TimeoutError):
            waits.recv(1000)

        idle[0].close()
        waits.settimeout(30)
        assert waits.recv(1000).startswith(b"HTTP/1.1 200")


def test_new_connections_are_accepted_at_a_bounded_rate() -> None:
    count = 40
    with serving(PublishedReport(report())) as port, ThreadPoolExecutor(8) as callers:
        began_s = time.monotonic()
        answers = list(callers.map(lambda _: get(port, "/metrics"), range(count)))
        took_s = time.monotonic() - began_s
    assert {answer.status for answer in answers} == {200}
    assert took_s > (count - 2) / server.REQUESTS_PER_S_MAX


async def test_requests_begin_at_a_bounded_rate() -> None:
    loop, count = asyncio.get_running_loop(), 6
    begun_s: list[float] = []

    async def app(*_: object) -> None:
        begun_s.append(loop.time())

    paced = server.PacedApp(app, 0.02, RateLimited(get_logger(), time.monotonic))
    began_s = loop.time()
    await asyncio.gather(*(paced({}, None, None) for _ in range(count)))  # type: ignore[arg-type]
    assert all(at_s - began_s > 0.019 * turn for turn, at_s in enumerate(begun_s))
    assert len(begun_s) == count


@pytest.mark.parametrize("sent", [b"", REQUEST[:10], REQUEST])
def test_a_connection_without_progress_ends(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "EXCHANGE_S_MAX", 0.1)
    with serving(PublishedReport(report())) as port, open_connection(port) as connection:
        connection.sendall(sent)
        try:
            while connection.recv(1000):
                pass
        except ConnectionResetError:
            pass  # ended as well


def test_headers_are_bounded() -> None:
    with serving(PublishedReport(report())) as port, open_connection(port) as connection:
        connection.sendall(REQUEST[:-2] + b"a: " + b"b" * 4 * server.HEADER_BYTES_MAX)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")


def test_a_stop_ends_open_connections() -> None:
    with serving(PublishedReport(report())) as port:
        connection = open_connection(port)
        connection.sendall(REQUEST)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    with connection, pytest.raises(ConnectionRefusedError):
        open_connection(port)
