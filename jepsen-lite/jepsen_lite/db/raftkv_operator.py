"""Operator's requests to a raftkv cluster, wherever its nodes run."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import Mapping

import raftkv
from jepsen_lite.db.base import Database, NoEffect
from raftkv.client.client import Client
from raftkv.client.model.status import NodeStatus, Role
from raftkv.client.settings import ClientSettings
from raftkv.errors import RaftkvError

ASK_TIMEOUT_S = 1.0
OPERATE_TIMEOUT_S = 10.0
REVISIONS_KEPT = 20


class RaftkvOperations(Database):
    """A cluster of nodes named node-1, node-2, ..., by their ids."""

    _operator: Client | None = None

    @abc.abstractmethod
    def direct_address(self, node: str) -> str:
        """Where the harness itself reaches the node, past the faults of the network."""

    async def operator(self) -> Client:
        """A client that the faults of the network don't reach."""
        if self._operator is None:
            endpoints = [self.direct_address(name) for name in self.nodes]
            settings = ClientSettings(follow_members=False)
            self._operator = await raftkv.connect(endpoints, settings=settings)
        return self._operator

    async def statuses(self) -> Mapping[str, NodeStatus | RaftkvError]:
        """What each node says of itself, or why it does not."""
        try:
            operator = await self.operator()
        except RaftkvError as error:
            return dict.fromkeys(self.nodes, error)

        async def ask(name: str) -> NodeStatus | RaftkvError:
            try:
                return await operator.status(self.direct_address(name), timeout=ASK_TIMEOUT_S)
            except RaftkvError as error:
                return error

        return dict(zip(self.nodes, await asyncio.gather(*map(ask, self.nodes)), strict=True))

    async def leader(self) -> str:
        leaders = {
            status.term: name
            for name, status in (await self.statuses()).items()
            if isinstance(status, NodeStatus) and status.role is Role.LEADER
        }
        return leaders[max(leaders)] if leaders else ""

    async def not_ready(self) -> Mapping[str, str]:
        statuses = await self.statuses()
        missing = {
            name: status.reason if isinstance(status, RaftkvError) else "has no leader"
            for name, status in statuses.items()
            if isinstance(status, RaftkvError) or not status.leader_id
        }
        if missing:
            return missing
        # An elected leader still has to commit an entry of its own term before it can be read.
        try:
            await (await self.operator()).get("ready?", timeout=ASK_TIMEOUT_S)
        except RaftkvError as error:
            return dict.fromkeys(self.nodes, error.reason)
        return {}

    def versions(self) -> Mapping[str, str]:
        return {"raftkv": raftkv.__version__}

    async def transfer_leader(self, to: str) -> str:
        before = await self.leader()
        if before == to:
            raise NoEffect(f"{to} leads already")
        try:
            operator = await self.operator()
            now = await operator.transfer_leader(number_of(to), timeout=OPERATE_TIMEOUT_S)
        except RaftkvError as error:
            raise NoEffect(f"refused: {error.reason}") from error
        return f"node-{now}"

    async def compact(self) -> str:
        try:
            operator = await self.operator()
            found = await operator.range_prefix("ready?", timeout=OPERATE_TIMEOUT_S)
            revision = found.revision - REVISIONS_KEPT
            if revision < 1:
                raise NoEffect("there is no history to forget")
            await operator.compact(revision, timeout=OPERATE_TIMEOUT_S)
        except RaftkvError as error:
            raise NoEffect(f"refused: {error.reason}") from error
        return f"forgot what was before revision {revision}"

    async def forget_operator(self) -> None:
        """Close the operator's client; the next one connects to the nodes of that moment."""
        operator, self._operator = self._operator, None
        if operator is not None:
            with contextlib.suppress(RaftkvError):
                await operator.close()


def number_of(name: str) -> int:
    """The id of a node by its name."""
    return int(name.removeprefix("node-"))
