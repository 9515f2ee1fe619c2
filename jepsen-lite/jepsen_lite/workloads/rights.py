"""Users who write, read, watch and lock while their rights are granted and withdrawn.

Each worker is of a user, who has keys of his own. An administrator gives each user roles with
access to these keys, one after the other, each for a while. No user has access to the keys and
leases of other users.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import rights
from jepsen_lite.clients.protocol import LOCK_NOT_ACQUIRED, KvClient, NotDone, OperationError
from jepsen_lite.history import History, Kind
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

PREFIX = "rights/"
END = "rights0"
SLOTS = 2
LEASE_TTL_S, LOCK_TTL_S = 3_600.0, 1.0
NAMED_TTL_S = 3_600.0
WATCHED_S = 0.5
NAMES = 3
"""Idempotency keys of each user."""
ACCESSES = ("read", "write", "readwrite", "readwrite")
OFF = 0.08
"""The share of the administrator's operations that disable authentication for a moment."""
ROLE_GONE = "ROLE_NOT_FOUND"
OWN = (
    *("put", "put", "put", "get", "get", "get", "put-named", "put-named"),
    *("take", "watch", "swap", "grant-lease", "renew-lease", "put-on-lease"),
)
OF_OTHERS = ("intrude", "pry", "renew-other-lease", "end-other-lease", "attach-to-other-lease")


def keys_of(user: str) -> tuple[str, str]:
    """The range of a user's keys."""
    return f"{PREFIX}{user}/", f"{PREFIX}{user}0"


def idempotency_key(number: int) -> str:
    """One of those that all users use, each for commands of his own."""
    return f"{PREFIX}{number}"


def password_of(user: str) -> str:
    """The password with which the clients of a user log in."""
    return f"{user}'s password"


class RightsWorkload:
    """`users` has the user of each worker. An operation is [user, ...] of what is asked for."""

    name = "rights"
    reads = frozenset({"get", "pry", "watch", "look"})

    def __init__(self) -> None:
        self.users: dict[int, str] = {}
        self._numbers = itertools.count(1)
        self._leases: dict[str, list[int]] = {}
        """Of each user, those that were granted."""
        self._roles: dict[str, str] = {}
        """The role of each user that was granted, or may have been."""
        self._disabled = False

    # ---- users -----------------------------------------------------------------------

    def next(self, rng: Random, worker: int) -> Invocation:
        user = self.users[worker]
        others = sorted({*self.users.values()} - {user})
        number = next(self._numbers)
        function = rng.choice(OF_OTHERS if others and rng.random() < 0.15 else OWN)
        owner = rng.choice(others) if function in OF_OTHERS else user
        key = f"{keys_of(owner)[0]}{rng.randrange(SLOTS)}"
        lease = rng.choice(self._leases.get(owner) or [0])
        match function:
            case "put-named":
                name = rng.randrange(NAMES)
                return Invocation(function, f"{keys_of(user)[0]}named", [user, str(name)])
            case "take":
                return Invocation(function, f"{keys_of(user)[0]}lock", [user])
            case "renew-lease" | "put-on-lease" if not lease:
                return Invocation("grant-lease", key, [user])
            case "renew-other-lease" | "end-other-lease" | "attach-to-other-lease" if not lease:
                return Invocation("pry", key, [user])
            case "attach-to-other-lease":
                key = f"{keys_of(user)[0]}0"
        return Invocation(function, key, [user, f"{number:06}", lease])

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, key = session.client, invocation.key
        user, *asked = invocation.value
        match invocation.function:
            case "grant" | "withdraw" | "enable" | "disable":
                return await self._administrate(client, invocation, timeout_s)
            case "put" | "intrude":
                return await client.put(key, asked[0], timeout_s=timeout_s)
            case "get" | "pry":
                found = await client.get(key, timeout_s=timeout_s)
                return None if found is None else found.value
            case "look":
                return [
                    [kv.key, kv.value]
                    for kv in (await client.read_prefix(PREFIX, timeout_s=timeout_s)).kvs
                ]
            case "put-named":
                done = await client.commands.put_under_key(
                    f"{key}-{asked[0]}",
                    asked[0],
                    idempotency_key=idempotency_key(int(asked[0])),
                    ttl_s=NAMED_TTL_S,
                    timeout_s=timeout_s,
                )
                return done.revision
            case "swap":
                swap = await client.compare_and_swap(key, "", asked[0], timeout_s=timeout_s)
                return swap.swapped
            case "take":
                with _unless(LOCK_NOT_ACQUIRED):
                    return await client.commands.acquire_if_free(
                        key, LOCK_TTL_S, timeout_s=timeout_s
                    )
                return None
            case "watch":
                return await _watch(client, key, min(WATCHED_S, timeout_s))
            case "grant-lease":
                lease = await client.leases.grant(LEASE_TTL_S, timeout_s=timeout_s)
                self._leases.setdefault(user, []).append(lease)
                return lease
            case "renew-lease" | "renew-other-lease":
                return await client.leases.renew(asked[1], timeout_s=timeout_s)
            case "end-other-lease":
                return await client.leases.revoke(asked[1], timeout_s=timeout_s)
            case "put-on-lease" | "attach-to-other-lease":
                return await client.commands.put_on_lease(
                    key, asked[0], asked[1], timeout_s=timeout_s
                )
        raise ValueError(f"no operation: {invocation.function!r}")

    def final(self) -> Sequence[Invocation]:
        return [Invocation("look", PREFIX, [""])]

    def check(self, history: History) -> list[Finding]:
        return [rights.check(list(history.operations(self.name)))]

    # ---- the administrator -----------------------------------------------------------

    def next_act(self, rng: Random, *, switches: bool) -> Invocation:
        """The administrator's next operation; with `switches` it may disable authentication.

        A role is granted once: what was asked for before it was deleted has no effect afterwards.
        """
        if self._disabled:
            return Invocation("enable", PREFIX, [""])
        if switches and rng.random() < OFF:
            return Invocation("disable", PREFIX, [""])
        user = rng.choice(sorted({*self.users.values()}))
        if user in self._roles:
            return Invocation("withdraw", keys_of(user)[0], [user, self._roles[user]])
        role = f"role-{next(self._numbers)}"
        return Invocation("grant", keys_of(user)[0], [user, role, rng.choice(ACCESSES)])

    async def _administrate(
        self, client: KvClient, invocation: Invocation, timeout_s: float
    ) -> Any:
        users = client.users
        match [invocation.function, *invocation.value]:
            case ["enable", _]:
                await users.enable(timeout_s=timeout_s)
                self._disabled = False
            case ["disable", _]:
                self._disabled = True
                await users.disable(timeout_s=timeout_s)
            case ["withdraw", user, role]:
                with _unless(ROLE_GONE):
                    await users.delete_role(role, timeout_s=timeout_s)
                del self._roles[user]
            case ["grant", user, role, access]:
                try:
                    await users.add_role(role, timeout_s=timeout_s)
                    await users.grant_access(role, access, *keys_of(user), timeout_s=timeout_s)
                except OperationError as error:
                    raise NotDone(f"the role is given up: {error}") from error
                try:
                    self._roles[user] = role
                    await users.grant_role(user, role, timeout_s=timeout_s)
                except OperationError as error:
                    if error.kind is Kind.FAIL:
                        del self._roles[user]
                    raise
        return invocation.value


async def _watch(client: KvClient, key: str, seconds: float) -> int:
    """How many changes a watch shows within this time."""
    watch, changes = client.watch(key, 0), 0
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for batch in watch.batches():
                    changes += len(batch)
    finally:
        await watch.close()
    return changes


@contextlib.contextmanager
def _unless(reason: str) -> Iterator[None]:
    """An answer for this reason is none of a failure."""
    try:
        yield
    except OperationError as error:
        if error.reason != reason:
            raise
