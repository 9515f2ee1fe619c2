"""A double barrier: a fixed number of members enter together and leave together.

A member that arrives joins the queue `name/members`. The key `name/round` holds the current round:
the token of its last member. Members with a token up to it have entered, later members belong to
the next round. A member that sees `count` entries writes the key, on condition that all of these
entries still exist. A member that sees no entry of the round left deletes the key, and the next
round can begin. Each step is a transaction on the state that was read, so several members may try
it at once, and a member may die at any step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from raftkv.arguments import milliseconds, to_timeout_or_none
from raftkv.client.client import Client
from raftkv.client.coordination.lock import Hold
from raftkv.client.coordination.loss import CancelOnLoss
from raftkv.client.coordination.queue import OnWait
from raftkv.client.coordination.queue_entry import QueueEntry
from raftkv.client.model import op, when
from raftkv.client.model.results import KeyValue
from raftkv.errors import DeadlineExceeded, LockLost, LockNotAcquired, printable
from raftkv.recipes._parameters import AgreedSize, recipe_name, to_client
from raftkv.recipes._queues import (
    refuse_to_wait,
    retry_until_answered,
    wait_for_change,
    wait_for_older_entries,
)
from raftkv.wire.lock_keys import is_entry, queue_bounds


class _Round(NamedTuple):
    """A round that has begun: the token of its last member, and the revision of the round's key."""

    last_token: int
    revision: int


class DoubleBarrier:
    """`count` members enter together and leave together; an object is one member.

        async with DoubleBarrier(client, "phase-1", 3):
            ...  # all three members are here; none goes on after the block before all left it

    A member that dies loses its entry when its lease ends, at most `ttl` seconds later. Members
    that wait to enter then wait for another member instead. Members that have entered see nothing
    until they leave: the dead member counts as one that has left. So no member waits for a dead one
    for longer than `ttl`, and the barrier does not show whether every member finished its work.
    A member that arrives when the round is full waits for the next round. `count` is at least 1,
    `ttl` is in seconds. `enter` raises `SizeMismatch` if the name is in use with another `count`.
    """

    name: bytes
    """The name of the barrier; its keys begin with it."""

    def __init__(self, client: Client, name: str | bytes, count: int, *, ttl: float = 10.0) -> None:
        self._client = to_client(client)
        self.name = recipe_name(name)
        self._queues = client.queues
        self._count = AgreedSize(client, self.name, count, "count")
        self._ttl_ms = milliseconds(ttl, "ttl")
        self._members = self.name + b"/members"
        self._round_key = self.name + b"/round"
        self._hold: Hold | None = None
        self._round = _Round(0, 0)

    async def enter(self, *, timeout: float | None = None) -> None:
        """Wait until `count` members are here.

        `timeout` is in seconds; None: as long as it takes, 0: enter only as the last member.
        Raises `LockNotAcquired` after the timeout, and the member has left the queue then;
        `LockLost` if its lease ended while it waited, or if it has entered already; `SizeMismatch`;
        `DeadlineExceeded` or `OutcomeUnknown` if no majority answers when it joins the queue.
        Costs a write for the entry, a watch, and one write for each round.
        """
        wait_s, on_wait = self._wait_limit(timeout)
        if self._hold is not None:
            raise LockLost(
                f"{printable(self.name)} was entered before; leave it first", name=self.name
            )
        self._queues.home.check()
        try:
            async with asyncio.timeout(wait_s):
                self._hold = await self._enter(on_wait)
        except TimeoutError:
            raise LockNotAcquired(
                f"not all {self._count.size} members of {printable(self.name)} came within"
                f" {timeout} s",
                name=self.name,
            ) from None

    async def leave(self, *, timeout: float | None = None) -> None:
        """Leave, and wait until all members of the round have left or are dead.

        The member has left at once, also if the wait ends early. `timeout` is in seconds; None: as
        long as it takes, 0: one look. Raises `DeadlineExceeded` after the timeout, `LockLost` if
        the member has not entered or its entry was lost before.
        """
        wait_s, on_wait = self._wait_limit(timeout)
        self._queues.home.check()
        hold, self._hold = self._require(), None
        try:
            async with asyncio.timeout(wait_s):
                if not await hold.release():
                    raise LockLost(f"the entry in {printable(self.name)} was lost", name=self.name)
                await self._wait_until_all_left(on_wait)
        except TimeoutError:
            raise DeadlineExceeded(
                f"members of {printable(self.name)} are still inside after {timeout} s"
            ) from None

    def step_back(self) -> None:
        """Leave without waiting for the other members; does nothing if it has not entered."""
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.abandon()

    def remaining(self) -> float:
        """For how many seconds it is certainly inside if no renewal succeeds; 0: it is not."""
        return self._hold.remaining() if self._hold else 0.0

    def check(self) -> None:
        """Raise `LockLost` if the member is not certain to be inside now."""
        self._require().check()

    async def __aenter__(self) -> Self:
        await self.enter()
        await self._require().__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._queues.home.inherited:
            return  # the entry is the parent process's
        hold, self._hold = self._hold, None
        if hold is not None:
            await hold.__aexit__(kind, error, traceback)
            if kind is None:
                await self._wait_until_all_left()

    def _wait_limit(self, timeout: float | None) -> tuple[float | None, OnWait]:
        """How long to wait, and what to do before a wait for other members."""
        if to_timeout_or_none(timeout) == 0:
            return self._queues.answer_s_max, refuse_to_wait
        return timeout, bool

    def _require(self) -> Hold:
        if self._hold is None:
            raise LockLost(f"{printable(self.name)} is not entered", name=self.name)
        return self._hold

    # ---- rounds ----------------------------------------------------------------------

    async def _enter(self, on_wait: OnWait) -> Hold:
        await self._count.agree()
        entry = await self._queues.join(self._members, self._ttl_ms, b"")
        try:
            with CancelOnLoss(entry, str(entry)):
                self._round = await self._wait_for_round(entry, on_wait)
            entry.check()
        except BaseException:
            self._queues.abandon(entry)
            raise
        return Hold(self._queues, entry)

    async def _wait_for_round(self, entry: QueueEntry, on_wait: OnWait) -> _Round:
        while True:
            here, current, revision = await retry_until_answered(self._look)
            if entry.token not in (kv.create_revision for kv in here):
                raise LockLost(f"the entry in {printable(self.name)} is gone", name=self.name)
            if current is not None and entry.token <= current.last_token:
                return current
            if current is not None:
                # All members inside may die: then a member that waits has to end their round.
                await wait_for_older_entries(
                    self._client, self._members, current.last_token + 1, on_wait
                )
                await retry_until_answered(partial(self._end, current))
            elif len(here) >= self._count.size:
                await retry_until_answered(partial(self._begin, here[: self._count.size]))
            else:
                # Only a later member can complete the round, and it will see that itself. So the
                # earlier members need to watch nothing but the round's key.
                on_wait()
                await wait_for_change(self._client, self._round_key, after=revision)

    async def _look(self) -> tuple[Sequence[KeyValue], _Round | None, int]:
        """The members in order, the round if there is one, and the revision of that state."""
        # One range, as "members" comes before "round".
        start, _ = queue_bounds(self._members)
        found = await self._client.range(start, self._round_key + b"\x00")
        here = [kv for kv in found.kvs if is_entry(self._members, kv.key, kv.create_revision)]
        rounds = [kv for kv in found.kvs if kv.key == self._round_key]
        current = _Round(int(rounds[0].value), rounds[0].mod_revision) if rounds else None
        return here, current, found.revision

    async def _begin(self, members: Sequence[KeyValue]) -> None:
        """Begin a round of these members, if all are still here and no round has begun."""
        await self._client.txn(
            compare=[
                when.version(self._round_key) == 0,
                *(when.create_revision(kv.key) == kv.create_revision for kv in members),
            ],
            success=[op.put(self._round_key, str(members[-1].create_revision))],
        )

    async def _end(self, ended: _Round) -> None:
        """End this round: none of its members is left."""
        await self._client.txn(
            compare=[when.mod_revision(self._round_key) == ended.revision],
            success=[op.delete(self._round_key)],
        )

    async def _wait_until_all_left(self, on_wait: OnWait = bool) -> None:
        ended = self._round
        await wait_for_older_entries(self._client, self._members, ended.last_token + 1, on_wait)
        await retry_until_answered(partial(self._end, ended))
