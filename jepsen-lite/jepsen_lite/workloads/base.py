"""What a workload implements: which operations to draw, how to run and to check them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, runtime_checkable

from jepsen_lite.checkers.linearizable.processes import MapKeys
from jepsen_lite.clients.protocol import CompactedError, KeyValue, KvClient
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding


@dataclass(frozen=True, slots=True)
class Invocation:
    """An operation that a worker is to carry out. `value` can be written as JSON."""

    function: str
    key: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Session:
    """The client of a worker, and the worker's number, which stays the same for the whole run.

    `record_fact` records at once what the worker learns outside its operations, as the loss of a
    lock.
    """

    client: KvClient
    worker: int
    record_fact: Callable[[Invocation], None]


@runtime_checkable
class JudgedByKey(Protocol):
    """A workload whose keys may be judged by several processes."""

    def check_keys(self, history: History, map_keys: MapKeys) -> list[Finding]:
        """As `check`."""


@runtime_checkable
class HoldingWorkload(Protocol):
    """A workload whose workers hold a lock or a leadership over several operations."""

    def release(self, worker: int) -> Invocation | None:
        """The operation that releases what the worker holds; None if it holds nothing."""


@runtime_checkable
class HistoryReadingWorkload(Protocol):
    """A workload whose unknown outcomes can be settled by reading the store's history."""

    def histories(self) -> Sequence[Invocation]:
        """The operations that read every version of every key, after all other operations."""


class Workload(Protocol):
    """One kind of load on the store."""

    name: str
    reads: frozenset[str]
    """Functions that change nothing: a failure of one is FAIL, whatever was lost."""

    def next(self, rng: Random, worker: int) -> Invocation:
        """The next operation of a worker."""

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        """Carry it out; the result goes into the history. Raises `OperationError`."""

    def final(self) -> Sequence[Invocation]:
        """The operations to read the final state with, once everything is healed."""

    def check(self, history: History) -> list[Finding]:
        """The findings of this workload's checkers on any history of it."""


async def each_version(client: KvClient, key: str, timeout_s: float) -> AsyncIterator[KeyValue]:
    """Every version of a key that was never deleted, the last one first. Raises `CompactedError`
    after the last one that is left.
    """
    revision = 0
    while True:
        found = await client.get(key, revision=revision, timeout_s=timeout_s)
        if found is None:
            return
        yield found
        if found.version == 1:
            return
        revision = found.mod_revision - 1


async def versions_of(client: KvClient, key: str, timeout_s: float) -> list[KeyValue]:
    """All of `each_version`."""
    return [version async for version in each_version(client, key, timeout_s)]


async def as_history(
    versions: Awaitable[Iterable[KeyValue]], effect_of: Callable[[KeyValue], Any]
) -> dict[str, Any]:
    """The result of the operation "history"; see `checkers.outcomes`."""
    try:
        found = await versions
    except CompactedError as error:
        return {"missing": str(error)}
    return {"versions": [[kv.key, kv.version, effect_of(kv), kv.mod_revision] for kv in found]}
