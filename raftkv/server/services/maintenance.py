"""`raftkv.rpc.v1.Maintenance`: backups of the whole state, streamed from any node."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import zstandard
from google.protobuf.message import DecodeError

from raftkv.errors import (
    DeadlineExceeded,
    InvalidRequest,
    InvariantViolation,
    Overloaded,
    RaftkvError,
    ShuttingDown,
)
from raftkv.kv.machine import StateMachine
from raftkv.kv.pace import Pace
from raftkv.kv.restoration import Row, backup_rows
from raftkv.rpc.v1 import api_pb2
from raftkv.server import failures, resources
from raftkv.server.access import rpc_path
from raftkv.server.authorization import Authorizer, Requester
from raftkv.server.calls import Context, Deadlines, header_of
from raftkv.server.node_port import NodePort
from raftkv.server.reads import ReadHandler
from raftkv.server.traffic import CallTraffic

BACKUP: Final = rpc_path("Maintenance", "Backup")

REQUEST_S_MAX: Final = 30.0
"""How long a stream may ask for nothing. Its rows stay on the disk meanwhile."""

BUSY_RETRY_AFTER_S: Final = 10.0

PART_BYTES: Final = 256 << 10
"""Rows of one part before compression; a single row may be larger."""

BYTES_PER_S_MAX: Final = 64 << 20
"""Rows before compression."""

CPU_SHARE_MAX: Final = 0.25
"""The share of the event loop for the reading of rows: other calls go first."""

UNIT_BYTES: Final = 1 << 10
"""So many bytes of a row cost as much as a row."""

COMPRESSION_LEVEL: Final = 3


class MaintenanceService:
    """Serves backups. `on_broken` is called with damaged data or a broken invariant."""

    def __init__(
        self,
        node: NodePort,
        reader: ReadHandler,
        authorizer: Authorizer,
        deadlines: Deadlines,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self._node = node
        self._reader = reader
        self._authorizer = authorizer
        self._deadlines = deadlines
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._reading: dict[asyncio.Task[object], None] = {}
        self._ending = False
        self._busy = False

    def end_streams(self) -> None:
        """The node is stopping: end every backup, which is then incomplete."""
        self._ending = True
        # Only streams that wait for a request: see `LeaseService.end_streams`.
        for stream in self._reading:
            stream.cancel()

    async def backup(
        self, _requests: AsyncIterator[bytes], context: Context, traffic: CallTraffic
    ) -> None:
        """Serve one backup of the state as of a read barrier. Each request allows one part."""
        requester = await self._authorizer.requester_of_stream(BACKUP, context)
        if requester is None:
            return
        try:
            await self._serve(context, traffic, requester)
        except (RaftkvError, InvariantViolation) as error:
            if failures.ends_service(error):
                self._on_broken(error)
            refused = failures.of_read(error)
            requester.report(refused)
            await failures.abort(context, refused, header_of(self._node))

    async def _serve(self, context: Context, traffic: CallTraffic, requester: Requester) -> None:
        request = await self._next_request(context, traffic)
        if request is None:
            return
        deadline = self._loop.time() + self._deadlines.default_s
        await requester.admit(request, deadline)
        # After the first request: a refusal during a write of the caller would lose its reason.
        if self._busy:
            raise Overloaded(
                "this node makes a backup already; wait for its end, or ask another node",
                retry_after_s=BUSY_RETRY_AFTER_S,
            )
        self._busy = True
        try:
            await self._send(context, traffic, requester, deadline)
        finally:
            self._busy = False

    async def _send(
        self, context: Context, traffic: CallTraffic, requester: Requester, deadline: float
    ) -> None:
        await self._reader.confirm(api_pb2.READ_LEVEL_LINEARIZABLE, deadline)
        machine = self._node.machine
        parts = BackupParts(backup_rows(machine.view))
        # Now, as whoever leaves before the end has read the rows before it.
        requester.report_act({"revision": machine.revision})
        part: api_pb2.BackupReply | None = api_pb2.BackupReply(backup=self._header(machine))
        while part is not None:
            part.header.CopyFrom(header_of(self._node))
            await traffic.write(context, part.SerializeToString())
            request = await self._next_request(context, traffic)
            if request is None:
                return
            if request.token:
                requester.renew(request.token)
            requester.require_for(request)
            part = await parts.next()

    def _header(self, machine: StateMachine) -> api_pb2.BackupHeader:
        node = self._node
        return api_pb2.BackupHeader(
            cluster_id=node.cluster_id,
            cluster_name=self._authorizer.cluster_name,
            incarnation=node.incarnation,
            node_id=node.node_id,
            revision=machine.revision,
            applied_index=machine.applied_index,
            applied_term=machine.applied_term,
            cluster_time_ms=machine.time_ms,
            cluster_version=machine.cluster_version,
            version=resources.version(),
        )

    async def _next_request(
        self, context: Context, traffic: CallTraffic
    ) -> api_pb2.BackupRequest | None:
        """The next request; None after the last. Raises `ShuttingDown` and `DeadlineExceeded`."""
        stream = asyncio.current_task()
        assert stream is not None
        self._reading[stream] = None
        try:
            if not self._ending:
                async with asyncio.timeout(REQUEST_S_MAX):
                    message = await context.read()
                if not isinstance(message, bytes):
                    return None
                traffic.connection.received += len(message)
                return api_pb2.BackupRequest.FromString(message)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the backup has asked for nothing for {REQUEST_S_MAX:g} s; begin another one"
            ) from None
        except DecodeError as error:
            raise InvalidRequest(f"not a BackupRequest: {error}") from error
        except asyncio.CancelledError:
            if not self._ending:  # the client has disconnected
                raise
        finally:
            del self._reading[stream]
        raise ShuttingDown("this node is stopping; ask another one")


class BackupParts:
    """The parts of a backup after its header: compressed rows, then the end.

    They are read in bounded steps, at a bounded rate.
    """

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._pace = Pace()
        self._compressor = zstandard.ZstdCompressor(COMPRESSION_LEVEL)
        self._digest = hashlib.sha256()
        self._end = api_pb2.BackupEnd()
        self._ended = False
        self._loop = asyncio.get_running_loop()

    async def next(self) -> api_pb2.BackupReply | None:
        """The next part; None after the end. Raises what a read of the store raises."""
        if self._ended:
            return None
        began_s = self._loop.time()
        part, size_bytes = await self._read()
        if not size_bytes:
            self._ended = True
            self._end.rows_sha256 = self._digest.digest()
            return api_pb2.BackupReply(end=self._end)
        rows = await asyncio.to_thread(self._compressor.compress, part.SerializeToString())
        self._end.rows += len(part.rows)
        self._end.rows_bytes += len(rows)
        self._digest.update(rows)
        left_s = began_s + size_bytes / BYTES_PER_S_MAX - self._loop.time()
        if left_s > 0:
            await asyncio.sleep(left_s)
        return api_pb2.BackupReply(rows=rows)

    async def _read(self) -> tuple[api_pb2.BackupRows, int]:
        """The rows of a part and their size, 0 if no row is left."""
        part, size_bytes = api_pb2.BackupRows(), 0
        began_s = self._loop.time()
        for family, key, value in self._rows:
            part.rows.add(family=family, key=key, value=value)
            row_bytes = len(key) + len(value) + 1
            size_bytes += row_bytes
            full = size_bytes >= PART_BYTES
            if self._pace.spend(1 + row_bytes // UNIT_BYTES) or full:
                took_s = self._loop.time() - began_s
                await asyncio.sleep(took_s * (1 / CPU_SHARE_MAX - 1))
                began_s = self._loop.time()
            if full:
                break
        return part, size_bytes
