"""Opens the HTTP port of a node: its sockets, and the TLS of the client port off loopback."""

from __future__ import annotations

import socket

from raftkv.config import Settings
from raftkv.errors import AddressInUse
from raftkv.http.app import make_app
from raftkv.http.report import PublishedReport
from raftkv.http.server import HttpServer, HttpTls
from raftkv.logs import Logger
from raftkv.server.security import NodeSecurity
from raftkv.tls.listener import listen


def open_http_port(
    settings: Settings, security: NodeSecurity, published: PublishedReport, log: Logger
) -> HttpServer:
    """Begin to serve on `http_listen`. Raises `AddressInUse`."""
    sockets: list[socket.socket] = []
    try:
        listen(settings.http_listen, sockets)
    except OSError as error:
        for listening in sockets:
            listening.close()
        raise AddressInUse(
            f"the HTTP port can't listen on {settings.http_listen}: stop the process that does, or"
            f" choose another http_listen address, or off ({error})",
            address=settings.http_listen,
        ) from error
    store, tls = security.client.store, None
    if settings.http_tls and store is not None:
        tls = HttpTls(lambda: store.current.server_context, security.deny_list)
    server = HttpServer(make_app(published), sockets, log, tls)
    server.start()
    return server
