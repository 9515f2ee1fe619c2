"""The client port: every service of this node behind one gRPC server, and its orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from raftkv.config import Settings
from raftkv.errors import AddressInUse
from raftkv.logs import Logger
from raftkv.rpc import api_pb2, api_pb2_grpc
from raftkv.server.admission import Admission
from raftkv.server.calls import UnaryCalls
from raftkv.server.cluster_service import ClusterService
from raftkv.server.deadlines import Deadlines
from raftkv.server.descriptors import CLIENT_CONNECTIONS_MAX
from raftkv.server.disk_space import RequireRoom, room_for_all
from raftkv.server.health import Health
from raftkv.server.kv_service import KVService
from raftkv.server.lease_service import LeaseService
from raftkv.server.lock_service import LockService
from raftkv.server.pipeline_service import PipelineService
from raftkv.server.ports import Node
from raftkv.server.reads import Reader
from raftkv.server.watch_service import WatchService

# gRPC cuts a stream whose message is over its bound, with all that is in flight on it. Up to
# here a request that is over ours is still read, and refused with its limit and the fix.
MESSAGE_BYTES_MAX = 32 << 20

SERVICES = (
    *(service.full_name for service in api_pb2.DESCRIPTOR.services_by_name.values()),
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    reflection.SERVICE_NAME,
)

OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    # Two processes must not share a port without knowing.
    ("grpc.so_reuseport", 0),
    # The probe for a larger window pings after every message; a fixed large one costs nothing.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4 << 20),
    # A client whose machine is gone holds its place for no longer than this.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Our client pings often, to learn quickly of a node that is gone.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
)


def listen(server: grpc.aio.Server, address: str) -> int:
    """Have a server that has not started listen on `host:port`. Raises `AddressInUse`."""
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise AddressInUse(
            f"clients can't be listened to on {address}: stop the process that does, or"
            f" choose another client_listen address ({error})",
            address=address,
        ) from error


class FrontDoor:
    """Serves clients of `node`. `on_broken` is told of what must stop the node."""

    def __init__(
        self,
        node: Node,
        settings: Settings,
        log: Logger,
        on_broken: Callable[[BaseException], None],
        *,
        require_room: RequireRoom = room_for_all,
        connections_max: int = CLIENT_CONNECTIONS_MAX,
    ) -> None:
        self._admission = Admission(
            requests_max=settings.submissions_in_flight_max,
            requests_per_client_max=settings.requests_per_client_max,
            bytes_max=settings.uncommitted_bytes_max,
        )
        deadlines = Deadlines.of_settings(settings)
        reader = Reader(node, settings.limits, on_broken)
        calls = UnaryCalls(node, self._admission, deadlines, log, on_broken)
        self._health = Health(node)
        self._pipelines = PipelineService(
            node, reader, self._admission, deadlines, settings.limits, log, require_room
        )
        self._watches = WatchService(node, self._admission, settings, on_broken)
        self._server = grpc.aio.server(
            options=(*OPTIONS, ("grpc.max_allowed_incoming_connections", connections_max))
        )
        kv = KVService(node, reader, calls, settings.limits, require_room)
        self._leases = LeaseService(node, reader, calls, deadlines)
        self._locks = LockService(node, reader, calls, settings.limits)
        cluster = ClusterService(node, reader, calls, settings.data_dir)
        api_pb2_grpc.add_KVServicer_to_server(kv, self._server)  # type: ignore[no-untyped-call]
        api_pb2_grpc.add_LeaseServicer_to_server(self._leases, self._server)  # type: ignore[no-untyped-call]
        api_pb2_grpc.add_LockServicer_to_server(self._locks, self._server)  # type: ignore[no-untyped-call]
        api_pb2_grpc.add_ClusterServicer_to_server(cluster, self._server)  # type: ignore[no-untyped-call]
        self._server.add_generic_rpc_handlers((self._pipelines.handler(), self._watches.handler()))
        self._health.add_to(self._server)
        reflection.enable_server_reflection(SERVICES, self._server)

    async def start(self, address: str) -> int:
        """Listen on `host:port` (port 0: any free one). Returns the port. Raises `AddressInUse`."""
        port = listen(self._server, address)
        await self._health.start()
        await self._server.start()
        return port

    async def drain(self, grace_s: float) -> None:
        """Look unhealthy, refuse new work, and wait until the rest is done or the grace is over."""
        await self._health.stop()
        self._admission.close()
        self._locks.end_waits()
        self._leases.end_streams()
        self._watches.end_streams()
        try:
            async with asyncio.timeout(grace_s):
                await self._admission.idle()
        except TimeoutError:
            return

    async def stop(self, grace_s: float) -> None:
        """End every stream once its last reply is out, then close the port."""
        await self._health.stop()
        self._pipelines.end_streams()
        await self._server.stop(grace_s)
