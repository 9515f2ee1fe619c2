"""A double barrier: all begin together and end together.

Who comes takes a place in the queue `name/members`. A round is a number, kept in `name/round`: the
token of its last member. Whoever sees that so many are there writes it, on condition that all
of them still are; those with a token up to it have entered, later ones belong to the next round.
Whoever sees that none of a round is left deletes the number, and the next round can begin. Each
step is a transaction on what was seen, so it does not matter how many try, or who dies meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from raftkv.arguments import milliseconds, to_timeout_or_none
from raftkv.client.client import Client
from raftkv.client.coordination.entry_watches import QueueEntry
from raftkv.client.coordination.lease import CancelOnLoss
from raftkv.client.coordination.lock import Hold
from raftkv.client.coordination.queue import OnWait
from raftkv.client.model import op, when
from raftkv.client.model.results import KeyValue
from raftkv.errors import DeadlineExceeded, LockLost, LockNotAcquired, printable
from raftkv.recipes.sharing import recipe_name, to_client
from raftkv.recipes.sizes import AgreedSize
from raftkv.recipes.waiting import (
    patiently,
    refuse_to_wait,
    until_changed,
    until_none_before,
)
from raftkv.wire.lock_keys import is_entry, queue_bounds


class _Round(NamedTuple):
    """A round that has begun: the token of its last member, and when that was written."""

    last_token: int
    revision: int


class DoubleBarrier:
    """`count` members enter together and leave together; an object is one member.

        async with DoubleBarrier(client, "phase-1", 3):
            ...  # all three are here, and none goes on after the block before all have left it

    A member that dies loses its place when its lease ends, at most `ttl` seconds later. To those
    that wait to enter it is as if it had not come: they wait for another one. To those that have
    entered nothing happens until they leave: then it counts as one that has left, so nobody waits
    for the dead for longer than `ttl`, and nobody learns from the barrier that it did not finish.
    A member that comes when the round is full waits for the next round. Using another `count`
    for the name than others do raises `SizeMismatch`.
    """

    def __init__(self, client: Client, name: str | bytes, count: int, *, ttl: float = 10.0) -> None:
        self._client = to_client(client)
        self.name = recipe_name(name)
        self._queues = client.queues
        self._count = AgreedSize(client, self.name, count, "count")
        self._ttl_ms = milliseconds(ttl, "ttl")
        self._members = self.name + b"/members"
        self._round_key = self.name + b"/round"
        self._held: Hold | None = None
        self._round = _Round(0, 0)

    async def enter(self, *, timeout: float | None = None) -> None:
        """Wait until `count` members are here; `timeout` 0: only if this is the last of them.

        Raises `LockNotAcquired` after `timeout` seconds: then it is not a member any more;
        `LockLost` if its lease ended while it waited, or if it has entered already.
        """
        wait_s, on_wait = self._patience(timeout)
        if self._held is not None:
            raise LockLost(
                f"{printable(self.name)} was entered before; leave it first", name=self.name
            )
        self._queues.home.check()
        try:
            async with asyncio.timeout(wait_s):
                self._held = await self._enter(on_wait)
        except TimeoutError:
            raise LockNotAcquired(
                f"not all {self._count.size} members of {printable(self.name)} came within"
                f" {timeout} s",
                name=self.name,
            ) from None

    async def leave(self, *, timeout: float | None = None) -> None:
        """Wait until all members of the round have left, or are dead; `timeout` 0: only look.

        It counts as having left itself from the first moment on, also if the wait ends early.
        Raises `DeadlineExceeded` after `timeout` seconds, `LockLost` if it has not entered or its
        place was lost before.
        """
        wait_s, on_wait = self._patience(timeout)
        self._queues.home.check()
        held, self._held = self._require(), None
        try:
            async with asyncio.timeout(wait_s):
                if not await held.release():
                    raise LockLost(f"the place in {printable(self.name)} was lost", name=self.name)
                await self._until_all_left(on_wait)
        except TimeoutError:
            raise DeadlineExceeded(
                f"members of {printable(self.name)} are still inside after {timeout} s"
            ) from None

    def step_back(self) -> None:
        """Leave without waiting for the others; nothing if it has not entered."""
        held, self._held = self._held, None
        if held is not None:
            held.depart()

    def remaining(self) -> float:
        """For how many seconds its place is certain if no renewal succeeds; 0 without a place."""
        return self._held.remaining() if self._held else 0.0

    def check(self) -> None:
        """Raise `LockLost` if it is not certain that it counts as one who is inside."""
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
            return  # the parent is inside
        held, self._held = self._held, None
        if held is not None:
            await held.__aexit__(kind, error, traceback)
            if kind is None:
                await self._until_all_left()

    def _patience(self, timeout: float | None) -> tuple[float | None, OnWait]:
        """For how long to wait, and what to do when it is others who are waited for."""
        if to_timeout_or_none(timeout) == 0:
            return self._queues.answer_s_max, refuse_to_wait
        return timeout, bool

    def _require(self) -> Hold:
        if self._held is None:
            raise LockLost(f"{printable(self.name)} is not entered", name=self.name)
        return self._held

    # ---- rounds ----------------------------------------------------------------------

    async def _enter(self, on_wait: OnWait) -> Hold:
        await self._count.agree()
        place = await self._queues.join(self._members, self._ttl_ms, b"")
        try:
            with CancelOnLoss(place, str(place)):
                self._round = await self._until_in_a_round(place, on_wait)
            place.check()
        except BaseException:
            self._queues.leave(place)
            raise
        return Hold(self._queues, place)

    async def _until_in_a_round(self, place: QueueEntry, on_wait: OnWait) -> _Round:
        while True:
            here, current, revision = await patiently(self._look)
            if place.token not in (kv.create_revision for kv in here):
                raise LockLost(f"the place in {printable(self.name)} is gone", name=self.name)
            if current is not None and place.token <= current.last_token:
                return current
            if current is not None:
                # Those inside may all die: then it is for those that wait to end their round.
                await until_none_before(
                    self._client, self._members, current.last_token + 1, on_wait
                )
                await patiently(partial(self._end, current))
            elif len(here) >= self._count.size:
                await patiently(partial(self._begin, here[: self._count.size]))
            else:
                # Only a member that came later can make it complete, and that one will see so
                # itself; hence all others need to watch nothing but the round.
                on_wait()
                await until_changed(self._client, self._round_key, after=revision)

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
        """All of these enter, if all of them are still here and no round has begun."""
        await self._client.txn(
            compare=[
                when.version(self._round_key) == 0,
                *(when.create_revision(kv.key) == kv.create_revision for kv in members),
            ],
            success=[op.put(self._round_key, str(members[-1].create_revision))],
        )

    async def _end(self, ended: _Round) -> None:
        """None of its members is left."""
        await self._client.txn(
            compare=[when.mod_revision(self._round_key) == ended.revision],
            success=[op.delete(self._round_key)],
        )

    async def _until_all_left(self, on_wait: OnWait = bool) -> None:
        ended = self._round
        await until_none_before(self._client, self._members, ended.last_token + 1, on_wait)
        await patiently(partial(self._end, ended))
