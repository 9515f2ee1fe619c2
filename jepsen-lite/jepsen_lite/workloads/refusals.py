"""Requests that the store must refuse, each for one reason and without any effect."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Iterable, Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import refusals
from jepsen_lite.checkers.refusals import DONE
from jepsen_lite.clients.commands import CommandClient
from jepsen_lite.clients.protocol import LOCK_NOT_ACQUIRED, OperationError
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

PREFIX = "refusals/"
TRACES = f"{PREFIX}trace/"
"""Every transaction that is to be refused puts a key under this prefix first."""
LARGE, LARGE_KEYS, LARGE_BYTES = f"{PREFIX}large/", 2, 1_000_000
MISSING = f"{PREFIX}missing"
LOCK, LOCK_TTL_S = f"{PREFIX}lock", 1.0
LEASES, LEASE_TTL_S = 2, 3_600.0
FUTURE = 1 << 50
READS = 5
"""Of one large key: the answer would have five million bytes, and 4 MiB are allowed."""
LOOKS = 128
"""At both large keys, so often by compares and by counts: one batch may look at 100,000 rows, and
each of these keys counts for 245.
"""
CHANGES = 40
"""Of one large key: one batch may replace 32 MiB."""
BURSTS_MAX = 4
"""Each of them adds large versions to the history."""
IN_THE_WAY, MARGIN = 40, 2
"""So many tokens are blocked, from the second one after the present revision on."""
SWEEPS_MAX, SWEPT, PER_FILL = 1, 1_080, 120
"""So many keys are deleted at once, more than a watch is sent as they are applied."""
KINDS = (
    "future-revision",
    "compacted-revision",
    "missing-key",
    "granted-lease",
    "large-answer",
    "too-many-keys",
)


class RefusalWorkload:
    """The requests are refused for what the store holds, so that each of them is in the log."""

    name = "refusals"
    reads = frozenset({"look"})

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._leases: list[int] = []
        self._filled: set[str] = set()
        self._bursts = self._sweeps = 0

    def next(self, rng: Random, worker: int) -> Invocation:
        if not self._leases:
            # Of this run alone: a lease of an earlier one may be living.
            self._leases = [1 + rng.getrandbits(48) for _ in range(LEASES)]
        number = next(self._numbers)
        if len(self._filled) < LARGE_KEYS and rng.random() < 0.3:
            return Invocation("fill", f"{LARGE}{rng.randrange(LARGE_KEYS)}")
        draw = rng.random()
        if draw < 0.3:
            return Invocation("look", TRACES)
        if draw < 0.5:
            return Invocation("take", LOCK)
        if draw < 0.54:
            return Invocation("take-blocked", f"{LOCK}/{number}")
        if draw < 0.57:
            return Invocation("compact", PREFIX)
        if draw < 0.6 and self._bursts < BURSTS_MAX:
            self._bursts += 1
            return Invocation("burst", f"{LARGE}0")
        if draw < 0.64 and self._sweeps < SWEEPS_MAX:
            self._sweeps += 1
            return Invocation("sweep", f"{PREFIX}swept/{number:06}/", SWEPT)
        kind = rng.choice(KINDS)
        asked: int | str = f"{TRACES}{number:06}"
        if kind == "granted-lease":
            asked = rng.choice(self._leases)
        return Invocation("refuse", kind, asked)

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, commands, key = session.client, session.client.commands, invocation.key
        match invocation.function:
            case "look":
                found = await client.read_prefix(TRACES, keys_only=True, timeout_s=timeout_s)
                return [kv.key for kv in found.kvs]
            case "fill":
                revision = await client.put(key, "x" * LARGE_BYTES, timeout_s=timeout_s)
                self._filled.add(key)
                return revision
            case "take":
                return await _reason_of(
                    commands.acquire_if_free(LOCK, LOCK_TTL_S, timeout_s=timeout_s),
                    LOCK_NOT_ACQUIRED,
                )
            case "take-blocked":
                return await self._take_blocked(session, key, timeout_s)
            case "sweep":
                keys = [f"{key}{number:04}" for number in range(SWEPT)]
                for first in range(0, SWEPT, PER_FILL):
                    puts = [["put", each, ""] for each in keys[first : first + PER_FILL]]
                    await commands.transact(_transaction(puts), timeout_s=timeout_s)
                swept = await commands.delete_range(key, f"{key}~", timeout_s=timeout_s)
                return [swept.revision, len(swept.rows)]
            case "compact":
                revision = (await client.read_prefix(TRACES, timeout_s=timeout_s)).revision
                compact = commands.compact(max(1, revision), timeout_s=timeout_s)
                return await _reason_of(compact, "REVISION_COMPACTED")
            case "burst":
                # Each in a command of its own: the last ones of a batch find no room, and are sent
                # again by the client.
                change = _transaction([["touch", key]])
                all_of_them = (
                    _reason_of(commands.transact(change, timeout_s=timeout_s), refusals.MISSING_KEY)
                    for _ in range(CHANGES)
                )
                return await _settled(all_of_them)
        return await self._refuse(commands, key, invocation.value, timeout_s)

    async def _refuse(
        self, commands: CommandClient, kind: str, asked: Any, timeout_s: float
    ) -> Any:
        """The reason of the refusal; `DONE` if there was none."""
        match kind:
            case "future-revision":
                request: Any = commands.compact(FUTURE, timeout_s=timeout_s)
            case "compacted-revision":
                request = commands.compact(1, timeout_s=timeout_s)
            case "granted-lease":
                request = commands.grant(asked, LEASE_TTL_S, timeout_s=timeout_s)
            case _:
                request = commands.transact(_refused(kind, asked), timeout_s=timeout_s)
        answer = await _reason_of(request, refusals.EXPECTED[kind])
        return answer if isinstance(answer, str) else DONE

    async def _take_blocked(self, session: Session, name: str, timeout_s: float) -> Any:
        """A key that is no entry of a lock's queue has the place of the next entry. Returns the
        first and the last token that are blocked, the revision of those keys, and the token or the
        reason.
        """
        client, commands = session.client, session.client.commands
        present = (await client.read_prefix(name, timeout_s=timeout_s)).revision
        first, last = present + MARGIN, present + MARGIN + IN_THE_WAY - 1
        keys = [f"{name}/{token:016x}" for token in range(first, last + 1)]
        puts = _transaction([["put", key, ""] for key in keys])
        revision, _ = await commands.transact(puts, timeout_s=timeout_s)
        taken = await _reason_of(
            commands.acquire_if_free(name, LOCK_TTL_S, timeout_s=timeout_s),
            LOCK_NOT_ACQUIRED,
            refusals.BLOCKED,
        )
        clear = _transaction([["delete", keys[0], f"{keys[-1]}/", 0]])
        await commands.transact(clear, timeout_s=timeout_s)
        return [first, last, revision, taken]

    def final(self) -> Sequence[Invocation]:
        return [Invocation("look", TRACES)]

    def check(self, history: History) -> list[Finding]:
        return [refusals.check(list(history.operations(self.name)))]


async def _reason_of(request: Awaitable[Any], *reasons: str) -> Any:
    """The result of the request, or the reason of its refusal if it is one of these."""
    try:
        return await request
    except OperationError as error:
        if error.reason in reasons:
            return error.reason
        raise


async def _settled(requests: Iterable[Awaitable[Any]]) -> int:
    """Wait for all of the requests; returns how many there were. Raises the first error."""
    ended = await asyncio.gather(*requests, return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException):
            raise each
    return len(ended)


def _transaction(operations: Sequence[Any]) -> dict[str, Sequence[Any]]:
    return {"compare": [], "success": operations, "failure": []}


def _refused(kind: str, trace: str) -> dict[str, Sequence[Any]]:
    """A transaction that puts a key before it comes to what is refused."""
    both = [LARGE, f"{LARGE}~"]
    put = ["put", trace, ""]
    match kind:
        case "missing-key":
            return _transaction([put, ["touch", MISSING]])
        case "large-answer":
            return _transaction([put, *[["range", f"{LARGE}0", "", 0]] * READS])
        case "too-many-keys":
            there = [["version", "!=", *both, -1]] * LOOKS
            return {**_transaction([put, *[["count", *both]] * (LOOKS - 1)]), "compare": there}
    raise ValueError(f"no kind of refusal: {kind!r}")
