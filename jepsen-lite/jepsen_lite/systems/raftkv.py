"""raftkv as processes of this machine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import raftkv
from jepsen_lite.node_traces import BYTES_MAX_PER_NODE, trace_of
from jepsen_lite.systems.base import NoEffect, SystemFailed
from jepsen_lite.systems.local import LocalCluster
from jepsen_lite.systems.raftkv_operator import OPERATE_TIMEOUT_S, Operated, number_of
from raftkv.client.client import Client
from raftkv.client.settings import ClientSettings
from raftkv.errors import Outcome, RaftkvError

CHANGE_TIMEOUT_S = 30.0
CHANGE_EVERY_S = 0.2
LEAVE_TIMEOUT_S = 20.0


class Raftkv(LocalCluster, Operated):
    """Nodes named node-1, node-2, ...; a node that was replaced gives its number to nobody."""

    name = "raftkv"
    peers_dial_both_ways = False
    flags: tuple[str, ...] = ()
    """What each node is told beside its addresses."""

    def __init__(self, directory: Path, logs: Path, size: int) -> None:
        super().__init__(directory, logs)
        names = [f"node-{number}" for number in range(1, size + 1)]
        self.addresses = {name: self.new_addresses(name) for name in names}
        members = ",".join(self._member(name) for name in names)
        for name in names:
            self.add_server(name, self._command(name, "--initial-members", members))
        self._next_number = size + 1
        self._leaving: dict[str, str] = {}  # by the new node's name

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
            *("--log-format", "json"),
            *("--trace-messages", str(trace_of(self.directory, name))),
            *("--set", f"trace_messages_bytes_max={BYTES_MAX_PER_NODE}"),
            *self.flags,
            *arguments,
        ]

    async def stop(self) -> None:
        await self.forget_operator()
        await super().stop()

    async def connect(self, node: str = "") -> Client:
        chosen = [node] if node else self.nodes
        settings = ClientSettings(follow_members=not node)
        return await raftkv.connect([self.endpoint(name) for name in chosen], settings=settings)

    async def replace(self, node: str) -> str:
        """As an operator does it: the new node has caught up and votes before the old one goes."""
        name = f"node-{self._next_number}"
        self._next_number += 1
        self.addresses[name] = addresses = self.new_addresses(name)
        number = number_of(name)
        operator = await self.operator()
        try:
            await operator.member_add(
                number, addresses.peer, addresses.client, timeout=OPERATE_TIMEOUT_S
            )
        except RaftkvError as error:
            if error.outcome is not Outcome.MAYBE_APPLIED:
                raise NoEffect(f"refused: {error.reason}") from error
        helper = next(each for each in self.nodes if self.servers[each].running and each != node)
        await self.join_network(name)
        server = self.add_server(name, self._command(name, "--join", self.back_door(helper)))
        await server.start()
        self._leaving[name] = node
        return name

    async def finish_replacements(self) -> int:
        finished = 0
        for name, leaving in list(self._leaving.items()):
            await self._until_done("promote", self._promote, number_of(name))
            await self._until_done("remove", self._remove, number_of(leaving))
            del self._leaving[name]
            if not await self.servers[leaving].ended(LEAVE_TIMEOUT_S):
                raise SystemFailed(f"{leaving} was removed, and has not stopped")
            del self.machines[leaving], self.servers[leaving]
            await self.forget_operator()
            finished += 1
        return finished

    async def _promote(self, number: int) -> None:
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
                    raise SystemFailed(f"can't {what} node {number}: {error}") from error
            await asyncio.sleep(CHANGE_EVERY_S)
