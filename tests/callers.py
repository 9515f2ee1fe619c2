"""Callers of a node without a connection: what the handlers use of a gRPC context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raftkv.config import Settings
from raftkv.logs import get_logger
from raftkv.server.access import rpc_path
from raftkv.server.authorization import Authorizer, Requester


class CallContext:
    """The context of a call with this bearer token, from this machine."""

    def __init__(self, token: str = "") -> None:
        self._token = token

    def peer(self) -> str:
        return "ipv4:127.0.0.1:50000"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token}"),) if self._token else ()

    def auth_context(self) -> dict[str, Any]:
        return {}


def requester_of(node: Any, service: str, method: str = "Open", token: str = "") -> Requester:
    """The caller of an RPC of the node, with this bearer token."""
    authorizer = Authorizer(node, Settings(data_dir=Path("unused")), get_logger())
    context: Any = CallContext(token)
    return authorizer.requester(rpc_path(service, method), context)
