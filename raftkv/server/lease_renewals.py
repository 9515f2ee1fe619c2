"""Renewals of leases, of all streams together: those of one turn of the loop share a command."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from raftkv.errors import InvalidRequest
from raftkv.rpc import kv_pb2
from raftkv.server.failures import error_of, of_write
from raftkv.server.ports import Node

LEASES_PER_REQUEST_MAX = 10_000
# What has gathered is sent before it comes near the limit of a command's size.
LEASES_PER_COMMAND_MAX = 50_000


class LeaseRenewals:
    """Gathers what is to be renewed at one node."""

    def __init__(self, node: Node, timeout_s: float) -> None:
        self._node = node
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._gathered: dict[int, None] = {}
        self._waiting: list[asyncio.Future[frozenset[int]]] = []

    def renew(self, leases: Sequence[int]) -> asyncio.Future[frozenset[int]]:
        """Renew these; the future tells which leases of the whole command have ended.

        Raises `InvalidRequest` for too many at once.
        """
        if len(leases) > LEASES_PER_REQUEST_MAX:
            raise InvalidRequest(
                f"leases has {len(leases)} entries, the limit is {LEASES_PER_REQUEST_MAX}; send"
                " several requests",
                field="leases",
                limit=LEASES_PER_REQUEST_MAX,
            )
        if not self._waiting:
            self._loop.call_soon(self._send)
        renewed: asyncio.Future[frozenset[int]] = self._loop.create_future()
        self._waiting.append(renewed)
        self._gathered.update(dict.fromkeys(leases))
        if len(self._gathered) >= LEASES_PER_COMMAND_MAX:
            self._send()
        return renewed

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        leases, self._gathered = list(self._gathered), {}
        if not waiting:
            return
        renewal = kv_pb2.Command(lease_keep_alive=kv_pb2.LeaseKeepAlive(leases=leases))
        commands = kv_pb2.CommandBatch(commands=[renewal]).SerializeToString()
        results = self._node.submit(commands, self._loop.time() + self._timeout_s)
        results.add_done_callback(partial(_answer, waiting))


def _answer(waiting: list[asyncio.Future[frozenset[int]]], results: asyncio.Future[bytes]) -> None:
    error = asyncio.CancelledError() if results.cancelled() else results.exception()
    ended: frozenset[int] = frozenset()
    if error is None:
        outcome = kv_pb2.BatchResult.FromString(results.result())
        if outcome.HasField("failure"):
            error = error_of(outcome.failure)
        else:
            ended = frozenset(outcome.results[0].lease_keep_alive.ended)
    for renewed in waiting:
        if renewed.done():
            continue
        if error is None:
            renewed.set_result(ended)
        else:
            renewed.set_exception(of_write(error))
