"""raftkv as processes of this machine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import raftkv
from jepsen_lite.clients.protocol import KvClient
from jepsen_lite.clients.raftkv_client import connect
from jepsen_lite.db.base import DatabaseFailed, NoEffect, do_all
from jepsen_lite.db.local import LocalCluster
from jepsen_lite.db.processes import Server
from jepsen_lite.db.raftkv_operator import OPERATE_TIMEOUT_S, RaftkvOperations, number_of
from jepsen_lite.node_traces import BYTES_MAX_PER_NODE, trace_of
from raftkv.client.settings import ClientSettings
from raftkv.errors import Outcome, RaftkvError

CHANGE_TIMEOUT_S = 30.0
CHANGE_EVERY_S = 0.2
LEAVE_TIMEOUT_S = 20.0
BULK_VALUE_BYTES = 20_000
BULK_TIMEOUT_S = 10.0

# Exit codes of `raftkv serve`: it was removed; no cluster admits it, or none knows it yet.
LEFT, NOT_JOINED = (0,), (2, 4)
# Its data directory or its disk can't be used.
BAD_DISK = (7,)


@dataclass(frozen=True, slots=True)
class Replacement:
    """A node that is to leave when the new one votes. `joined`: the new one has no excuse then."""

    leaving: Server
    joined: Callable[[], None]


class RaftkvCluster(LocalCluster, RaftkvOperations):
    """Nodes named node-1, node-2, ...; the number of a replaced node is not reused."""

    name = "raftkv"
    peers_dial_both_ways = False
    bad_disk_codes = BAD_DISK
    flags: tuple[str, ...] = ()
    """The settings of each node beside its addresses."""

    def __init__(self, directory: Path, logs: Path, size: int) -> None:
        super().__init__(directory, logs)
        names = [f"node-{number}" for number in range(1, size + 1)]
        self.addresses = {name: self.new_addresses(name) for name in names}
        members = ",".join(self._member(name) for name in names)
        for name in names:
            self.add_server(name, self._command(name, "--initial-members", members))
        self._next_number = size + 1
        self._replacements: dict[str, Replacement] = {}  # by the new node's name
        self._finishing = asyncio.Lock()

    def _member(self, name: str) -> str:
        addresses = self.addresses[name]
        return f"{number_of(name)}={addresses.peer}/{addresses.client}"

    def runs_by(self, name: str) -> list[str]:
        """What goes before the command of a node."""
        return []

    def _command(self, name: str, *arguments: str) -> list[str]:
        addresses = self.addresses[name]
        return [
            *self.runs_by(name),
            *(sys.executable, "-m", "raftkv", "serve"),
            *("--node-id", str(number_of(name))),
            *("--data-dir", str(self.directory / name)),
            *("--client-listen", addresses.client_listen),
            *("--client-advertise", addresses.client),
            *("--peer-listen", addresses.peer_listen),
            *("--peer-advertise", addresses.peer),
            *("--set", "http_listen=off"),
            *("--log-format", "json"),
            *("--trace-messages", str(trace_of(self.directory, name))),
            *("--set", f"trace_messages_bytes_max={BYTES_MAX_PER_NODE}"),
            *self.flags,
            *arguments,
        ]

    async def stop(self) -> None:
        await do_all([self.forget_operator, super().stop])

    async def connect(self, node: str = "") -> KvClient:
        chosen = [node] if node else self.nodes
        settings = ClientSettings(follow_members=not node)
        return await connect([self.endpoint(name) for name in chosen], settings=settings)

    async def replace(self, node: str) -> str:
        """As an operator does it: the new node has caught up and votes before the old one goes."""
        leaving = self.servers[node]
        name = f"node-{self._next_number}"
        self._next_number += 1
        self.addresses[name] = self.new_addresses(name)
        try:
            await self._add(number_of(name))
        except RaftkvError as error:
            if error.outcome is not Outcome.MAYBE_APPLIED:
                raise NoEffect(f"refused: {error.reason}") from error
            await self._until_done("add", self._add, number_of(name))
        others = [each for each in self.nodes if each != node]
        helper = next((each for each in others if self.servers[each].running), others[0])
        await self.join_network(name)
        server = self.add_server(name, self._command(name, "--join", self.direct_address(helper)))
        self._replacements[name] = Replacement(leaving, server.excuse(NOT_JOINED))
        await server.start()
        return name

    async def finish_replacements(self) -> int:
        async with self._finishing:
            names = list(self._replacements)
            for name in names:
                await self._finish(name)
            return len(names)

    async def _finish(self, name: str) -> None:
        replacement = self._replacements[name]
        leaving = replacement.leaving
        await self._until_done("promote", self._promote, number_of(name))
        leaving.excuse(LEFT)
        await self._until_done("remove", self._remove, number_of(leaving.name))
        del self._replacements[name]
        replacement.joined()
        if not await leaving.ended(LEAVE_TIMEOUT_S):
            raise DatabaseFailed(f"{leaving.name} was removed, and has not stopped")
        if leaving.name in self.servers:  # two faults may have replaced the same one
            self.retire(leaving.name)
        await self.forget_operator()

    async def write_bulk(self, total_bytes: int) -> int:
        """Fill the log with values that no workload reads; returns the bytes acknowledged."""
        operator = await self.operator()

        async def write(number: int) -> int:
            value = b"%d" % number * (BULK_VALUE_BYTES // len(b"%d" % number))
            try:
                await operator.put(f"bulk/{number % 20}", value, timeout=BULK_TIMEOUT_S)
            except RaftkvError:
                return 0  # another fault prevents it
            return len(value)

        count = total_bytes // BULK_VALUE_BYTES + 1
        return sum(await asyncio.gather(*map(write, range(count))))

    async def _add(self, number: int) -> None:
        operator = await self.operator()
        members = await operator.member_list(timeout=OPERATE_TIMEOUT_S)
        if number in [each.node_id for each in members]:
            return  # an earlier try did it
        addresses = self.addresses[f"node-{number}"]
        await operator.member_add(
            number, addresses.peer, addresses.client, timeout=OPERATE_TIMEOUT_S
        )

    async def _promote(self, number: int) -> None:
        await self.servers[f"node-{number}"].start()
        operator = await self.operator()
        try:
            await operator.member_promote(number, timeout=OPERATE_TIMEOUT_S)
        except raftkv.MembershipRefused:
            members = await operator.member_list(timeout=OPERATE_TIMEOUT_S)
            if number not in [each.node_id for each in members if not each.learner]:
                raise
            # an earlier try did it

    async def _remove(self, number: int) -> None:
        try:
            await (await self.operator()).member_remove(number, timeout=OPERATE_TIMEOUT_S)
        except raftkv.MemberUnknown:
            return  # an earlier try did it

    async def _until_done(
        self, what: str, change: Callable[[int], Awaitable[None]], number: int
    ) -> None:
        """A change is refused while another one is under way, or while the new node lags."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + CHANGE_TIMEOUT_S
        while True:
            try:
                return await change(number)
            except RaftkvError as error:
                if loop.time() > until_s:
                    raise DatabaseFailed(f"can't {what} node {number}: {error}") from error
            await asyncio.sleep(CHANGE_EVERY_S)
