"""The requests of a simulated node that joins, as raftkv/server/bootstrap.py sends them by gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.process import Process
from raftkv.errors import (
    DamagedData,
    MembershipRefused,
    MemberUnknown,
    OutcomeUnknown,
    RaftkvError,
    Unavailable,
)
from raftkv.node.node import Node
from raftkv.raft.entry import Address
from raftkv.storage.identity import DirectoryIdentity
from raftkv.versions import SUPPORTED

ASK_TIMEOUT_S = 2.0
RETRY_S = 0.2
CALL_BYTES = 256

T = TypeVar("T")


class RunningHost(Protocol):
    """A machine, as this module needs it."""

    @property
    def name(self) -> str: ...
    @property
    def node(self) -> Node | None: ...
    @property
    def process(self) -> Process | None: ...


class JoinRequests:
    """The requests of one process that joins. `leader` is the present leader, seen from outside."""

    def __init__(
        self,
        network: SimulatedNetwork,
        process: Process,
        host: str,
        leader: Callable[[], RunningHost | None],
    ) -> None:
        self._network = network
        self._process = process
        self._host = host
        self._leader = leader

    async def incarnation(self) -> int:
        """Of the running cluster."""

        async def read(node: Node) -> int:
            return node.incarnation

        return await self._ask(read)

    async def join(self, identity: DirectoryIdentity, address: Address) -> None:
        """Have the cluster note the disk. Raises `DamagedData` if the cluster refuses it."""

        async def join(node: Node) -> None:
            deadline = asyncio.get_running_loop().time() + ASK_TIMEOUT_S
            await node.member_join(identity.node_id, identity.disk_id, SUPPORTED, address, deadline)

        try:
            await self._ask(join)
        except MembershipRefused as error:
            raise DamagedData(error.message) from error

    async def _ask(self, work: Callable[[Node], Awaitable[T]]) -> T:
        while True:
            try:
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    return await self._call(work)
            except (TimeoutError, Unavailable, OutcomeUnknown, MemberUnknown):
                # A supervisor starts the process again until the node was added.
                await asyncio.sleep(RETRY_S)

    async def _call(self, work: Callable[[Node], Awaitable[T]]) -> T:
        seat = self._leader()
        if seat is None or seat.process is None or seat.node is None:
            raise Unavailable("no node leads")
        server, node, done = seat.process, seat.node, self._process.create_future()

        def settle(result: T | None, error: RaftkvError | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        async def serve() -> None:
            result, failure = None, None
            try:
                result = await work(node)
            except RaftkvError as error:
                failure = error
            self._network.datagram(
                seat.name,
                self._host,
                CALL_BYTES,
                lambda: self._process.enter(settle, result, failure),
            )

        self._network.datagram(
            self._host,
            seat.name,
            CALL_BYTES,
            lambda: server.enter(lambda: server.create_task(serve())),
        )
        result: T = await done
        return result
