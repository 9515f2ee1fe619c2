"""The client port: one gRPC server with every service of this node, and its graceful stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from google.protobuf.message import DecodeError, Message
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection import SERVICE_NAME
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from raftkv.config import Settings
from raftkv.errors import InvalidRequest, Unavailable
from raftkv.kv.limits import Limits
from raftkv.logs import Logger, RateLimited
from raftkv.metrics import table
from raftkv.metrics.samples import SampleSet
from raftkv.rpc.v1 import api_pb2
from raftkv.server import health
from raftkv.server.admission import Admission
from raftkv.server.authorization import Authorizer, identity_header
from raftkv.server.call_intake import (
    BACKUP,
    KEEP_ALIVE,
    LOCK_WAIT,
    PIPELINE,
    REFLECTION,
    STREAMS_PER_CONNECTION_MAX,
    WATCH,
    CallIntake,
    Context,
    Method,
    StreamMethod,
    methods_of,
)
from raftkv.server.calls import Deadlines, UnaryCalls
from raftkv.server.disk_space import RequireRoom, room_for_all
from raftkv.server.health import Health
from raftkv.server.node_port import NodePort
from raftkv.server.passwords import PasswordHashing
from raftkv.server.pipeline.service import PipelineService
from raftkv.server.reads import ReadHandler
from raftkv.server.reload import ReloadSettings
from raftkv.server.resources import CLIENT_CONNECTIONS_MAX
from raftkv.server.services.auth import AuthService
from raftkv.server.services.cluster import ClusterService
from raftkv.server.services.kv import KVService
from raftkv.server.services.lease import LeaseService
from raftkv.server.services.lock import LockService
from raftkv.server.services.maintenance import MaintenanceService
from raftkv.server.traffic import CallTraffic, ClientTraffic
from raftkv.server.watch.service import WatchService
from raftkv.tls.port import PLAINTEXT, GrpcPort, PortTls

# gRPC ends a call whose message is over its bound, a stream with all that is in flight on it. So
# much over our bound of a batch a request is still read, and refused with its limit and the fix.
MESSAGE_BYTES_OVER_BATCH = 1 << 20

LOOKAHEAD_BYTES = 128 << 10

_API = api_pb2.DESCRIPTOR.services_by_name
SERVICES = (*(service.full_name for service in _API.values()), health.SERVICE.full_name)

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    # gRPC reads metadata before the call is counted; ours is a request id at most.
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
    # Calls that gRPC has accepted and not yet passed on, of all connections: it refuses some of
    # them above the first number and all above the second, as CANCELLED.
    ("grpc.server.max_pending_requests", 2000),
    ("grpc.server.max_pending_requests_hard_limit", 3000),
    # For connections that do not complete the HTTP/2 preface.
    ("grpc.server_handshake_timeout_ms", 5_000),
    # With SO_REUSEPORT two processes could listen on the same port unnoticed.
    ("grpc.so_reuseport", 0),
    # The bandwidth probe pings after every message; a fixed large window costs nothing.
    ("grpc.http2.bdp_probe", 0),
    # How much of a message gRPC takes into memory before it is read, for each stream.
    ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
    # A client whose machine is gone occupies its slots for no longer than this.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Our client pings often, to detect a failed node quickly.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
)


def options(limits: Limits) -> tuple[tuple[str, int], ...]:
    """The options of a gRPC server for clients."""
    bytes_max = limits.batch_bytes_max + MESSAGE_BYTES_OVER_BATCH
    return (*OPTIONS, ("grpc.max_receive_message_length", bytes_max))


class ClientServer:
    """Serves the clients of `node`. `on_broken` is called with an error that must stop the node.

    A connection for which `descriptors_max` file descriptors (0: no bound) do not suffice is closed
    when it is accepted.
    """

    def __init__(
        self,
        node: NodePort,
        settings: Settings,
        log: Logger,
        on_broken: Callable[[BaseException], None],
        *,
        require_room: RequireRoom = room_for_all,
        descriptors_max: int = CLIENT_CONNECTIONS_MAX,
        tls: PortTls = PLAINTEXT,
    ) -> None:
        limits = settings.limits
        self._admission = Admission(
            requests_max=settings.submissions_in_flight_max,
            requests_per_client_max=settings.requests_per_client_max,
            bytes_max=settings.uncommitted_bytes_max,
        )
        deadlines = self._deadlines = Deadlines.of_settings(settings)
        reader = ReadHandler(node, limits, on_broken)
        authorizer = self._authorizer = Authorizer(node, settings, log)
        calls = UnaryCalls(node, authorizer, self._admission, deadlines, log, on_broken)
        self._health = Health(node)
        self._pipelines = PipelineService(
            reader, authorizer, self._admission, deadlines, limits, log, require_room
        )
        self._watches = WatchService(node, authorizer, self._admission, settings, on_broken)
        self._leases = LeaseService(node, reader, calls, deadlines)
        self._locks = LockService(node, reader, calls, limits)
        kv = KVService(node, reader, calls, limits, require_room)
        self._cluster = ClusterService(node, reader, calls, settings.data_dir)
        self._maintenance = MaintenanceService(node, reader, authorizer, deadlines, on_broken)
        self._auth = AuthService(node, reader, calls, PasswordHashing())
        self._intake = CallIntake(
            methods_of(_API["KV"], kv, may_be_large=_may_be_large)
            | methods_of(_API["Lease"], self._leases, may_be_large=_always)
            | methods_of(_API["Lock"], self._locks, kinds={"Wait": LOCK_WAIT})
            | methods_of(_API["Cluster"], self._cluster)
            | methods_of(_API["Auth"], self._auth)
            | {
                _path("Maintenance", "Backup"): StreamMethod(self._maintenance.backup, BACKUP),
                _path("Pipeline", "Open"): StreamMethod(self._pipelines.open, PIPELINE),
                _path("Watch", "Open"): StreamMethod(self._watches.open, WATCH),
                _path("Lease", "KeepAlive"): StreamMethod(self._leases.keep_alive, KEEP_ALIVE),
            }
            | authorizer.guard(self._health.methods() | Reflection(SERVICES).methods()),
            ClientTraffic(),
            RateLimited(log, asyncio.get_running_loop().time),
            lambda: identity_header(node),
            tls.deny_list,
            self._admission.counts,
        )
        self._server = GrpcPort(
            "client", self._intake, options(limits), tls, descriptors_max=descriptors_max
        )

    def offer_reload(self, reload_settings: ReloadSettings) -> None:
        """What `ReloadConfig` does from now on. Before, it is refused."""
        self._cluster.reload_settings = reload_settings

    async def start(self, address: str) -> int:
        """Listen on `host:port` (port 0: any free one). Returns the port. Raises `AddressInUse`."""
        self._health.start()
        return await self._server.start(address)

    def sample(self, samples: SampleSet) -> None:
        """Add the values of the metrics of this port."""
        self._admission.sample(samples)
        self._intake.sample(samples)
        self._watches.sample(samples)
        samples.set(table.LOCK_WAITS, self._locks.waits)

    @property
    def accepting(self) -> bool:
        """Whether it takes new requests."""
        return not self._admission.closed

    def apply(self, settings: Settings) -> None:
        """Use the live settings among these for later requests and streams."""
        for part in (self._admission, self._deadlines, self._authorizer, self._watches):
            part.apply(settings)

    def queues(self) -> dict[str, object]:
        """What is in flight and open at this moment, by name."""
        return {
            "requests_in_flight": self._admission.requests,
            "request_bytes_in_flight": self._admission.bytes,
            "calls": self._intake.open_calls(),
        }

    async def drain(self, grace_s: float) -> None:
        """Report NOT_SERVING, refuse new requests, and wait until the others are done or `grace_s`
        is over.
        """
        self._health.stop()
        self._admission.close()
        self._locks.end_waits()
        self._leases.end_streams()
        self._maintenance.end_streams()
        self._watches.end_streams()
        try:
            async with asyncio.timeout(grace_s):
                await self._admission.idle()
        except TimeoutError:
            return

    async def stop(self, grace_s: float) -> None:
        """End every stream after its last reply, then close the port."""
        self._health.stop()
        self._pipelines.end_streams()
        await self._server.stop(grace_s)
        self._auth.close()


def _path(service: str, method: str) -> str:
    return f"/{_API[service].full_name}/{method}"


def _may_be_large(request: Message) -> bool:
    """Whether the reply of a KV call may be large: of all but the simple commands."""
    return not (
        isinstance(request, api_pb2.ExecuteRequest)
        and request.command.WhichOneof("command") in ("put", "acquire", "lease_grant")
    )


def _always(_: Message) -> bool:
    return True


STREAM_S_MAX = 60.0
"""A reflection stream ends then; a client may open another one."""


class Reflection:
    """gRPC reflection for `services`, by which a generic client learns what the port serves."""

    def __init__(self, services: Sequence[str]) -> None:
        self._servicer: Any = ReflectionServicer((*services, SERVICE_NAME))

    def methods(self) -> dict[str, Method]:
        """The methods, for the `CallIntake`."""
        return {f"/{SERVICE_NAME}/ServerReflectionInfo": StreamMethod(self._reflect, REFLECTION)}

    async def _reflect(
        self, _: AsyncIterator[bytes], context: Context, traffic: CallTraffic
    ) -> None:
        try:
            async with asyncio.timeout(STREAM_S_MAX):
                replies = self._servicer.ServerReflectionInfo(_requests(context, traffic), context)
                async for reply in replies:
                    await traffic.write(context, reply.SerializeToString())
        except TimeoutError:
            raise Unavailable("this stream is over; begin another one") from None


async def _requests(
    context: Context, traffic: CallTraffic
) -> AsyncIterator[ServerReflectionRequest]:
    while isinstance(message := await context.read(), bytes):
        traffic.connection.received += len(message)
        try:
            yield ServerReflectionRequest.FromString(message)
        except DecodeError as error:
            raise InvalidRequest(f"not a ServerReflectionRequest: {error}") from error
