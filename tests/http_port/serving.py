"""A HTTP port on reports that a test makes, and a caller."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from raftkv.http.app import make_app
from raftkv.http.report import NodeReport, PublishedReport, ReadinessCheck
from raftkv.http.server import HttpServer
from raftkv.logs import get_logger
from raftkv.metrics import table
from raftkv.metrics.samples import SampleSet

CHECKS = (
    ReadinessCheck("in_service", ""),
    ReadinessCheck("leader", "no leader is known", needs_majority=True),
)


class Answer(NamedTuple):
    status: int
    text: str


def report(
    *, age_s: float = 0.0, write_s: float | None = None, samples: SampleSet | None = None
) -> NodeReport:
    """Published `age_s` ago, when a write to the log had gone on for `write_s`."""
    at_s = time.monotonic() - age_s
    if samples is None:
        samples = SampleSet()
        samples.set(table.TERM, 7)
    return NodeReport(
        at_s,
        None if write_s is None else at_s - write_s,
        CHECKS,
        samples.taken(),
        (("version", "1.2.3"),),
    )


@contextmanager
def serving(published: PublishedReport) -> Iterator[int]:
    """The port on which these reports are served."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    server = HttpServer(make_app(published), [listening], get_logger())
    port = listening.getsockname()[1]
    server.start()
    try:
        yield port
    finally:
        server.stop()


def get(
    port: int, path: str, *, method: str = "GET", context: ssl.SSLContext | None = None
) -> Answer:
    """One request on a connection of its own."""
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return Answer(reply.status, reply.read().decode())
    finally:
        connection.close()
