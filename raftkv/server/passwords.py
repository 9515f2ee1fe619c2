"""Passwords: hashing beside the event loop, fair between addresses, and slower after failures.

Passwords are hashed with argon2id. Two hashes at a time keep two threads and 128 MiB busy at most;
further ones wait in turns between addresses, so an address that sends many delays its own only.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from argon2 import Parameters, PasswordHasher, profiles
from argon2.exceptions import InvalidHashError, VerificationError

from raftkv.errors import InvalidRequest, Overloaded, Unauthenticated
from raftkv.node.fair_queue import FairQueue
from raftkv.server.audit import network_of

PARAMETERS: Parameters = replace(profiles.RFC_9106_LOW_MEMORY, parallelism=1)
"""The profile of RFC 9106 for little memory, in one thread instead of four: a node's event loop
needs a core beside those that hash."""

PASSWORD_BYTES_MAX: Final = 1024

HASHES_AT_ONCE: Final = 2
WAITING_MAX: Final = 256
WAITING_PER_NETWORK_MAX: Final = 64
NICENESS: Final = 10
"""Of the threads that hash, on Linux: the event loop goes before them."""

Result = TypeVar("Result")


class Passwords(Protocol):
    """Hashes and verifies passwords."""

    async def hash(self, password: str, address: str) -> str:
        """The hash of a new password. Raises `InvalidRequest` for a password that is empty or too
        long, and `Overloaded`.
        """

    async def verify(
        self, password: str, password_hash: str, address: str, begin: Callable[[], None]
    ) -> bool:
        """Whether it is the password of this hash. An empty hash, of a user who has no password or
        does not exist, takes as long.

        `begin` is called when it is this password's turn; what it raises ends the attempt.
        """

    def close(self) -> None:
        """Begin no further hash."""


class PasswordHashing:
    """`Passwords` by argon2id, in threads. A turn ends with its thread's work, also if the
    caller has gone.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(PARAMETERS)
        self._threads = ThreadPoolExecutor(HASHES_AT_ONCE, "password", initializer=_give_way)
        self._loop = asyncio.get_running_loop()
        self._waiting: FairQueue[str, asyncio.Future[None]] = FairQueue(quantum=1)
        self._waiting_of: dict[str, int] = {}
        self._free = HASHES_AT_ONCE
        self._no_password: str | None = None
        """The hash of a random password, made at its first use."""

    def close(self) -> None:
        """See `Passwords.close`."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str, address: str) -> str:
        """See `Passwords.hash`: with salt and parameters."""
        check_password(password)
        return await self._run(address, lambda: self._hasher.hash(password))

    async def verify(
        self, password: str, password_hash: str, address: str, begin: Callable[[], None]
    ) -> bool:
        """See `Passwords.verify`."""
        check_password(password)
        return await self._run(address, lambda: self._verify(password, password_hash), begin)

    def _verify(self, password: str, password_hash: str) -> bool:
        if self._no_password is None:
            self._no_password = self._hasher.hash(os.urandom(32).hex())
        try:
            self._hasher.verify(password_hash or self._no_password, password)
        except (VerificationError, InvalidHashError):
            return False
        return bool(password_hash)

    async def _run(
        self, address: str, work: Callable[[], Result], begin: Callable[[], None] = lambda: None
    ) -> Result:
        await self._turn(network_of(address))
        try:
            begin()
            hashing = self._loop.run_in_executor(self._threads, work)
        except BaseException:
            self._end_turn()
            raise
        hashing.add_done_callback(self._end_turn)
        return await asyncio.shield(hashing)

    async def _turn(self, network: str) -> None:
        """Wait for a thread. Raises `Overloaded` if too many wait."""
        if self._free:
            self._free -= 1
            return
        waiting = self._waiting_of.get(network, 0)
        if len(self._waiting) >= WAITING_MAX or waiting >= WAITING_PER_NETWORK_MAX:
            raise Overloaded(
                f"{len(self._waiting)} passwords wait to be checked, {waiting} of them from this"
                f" address; the bounds are {WAITING_MAX} and {WAITING_PER_NETWORK_MAX}",
                retry_after_s=1.0,
            )
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.push(network, turn, 1)
        self._waiting_of[network] = waiting + 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._end_turn()  # it came too late
            else:
                self._waiting.remove(network, turn)
            raise
        finally:
            self._waiting_of[network] -= 1
            if not self._waiting_of[network]:
                del self._waiting_of[network]

    def _end_turn(self, _: object = None) -> None:
        self._free += 1
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.pop().set_result(None)


def check_password(password: str) -> None:
    """Raise `InvalidRequest` for a password that is empty or too long."""
    if not password:
        raise InvalidRequest("the password is empty; give one", field="password")
    if len(password.encode(errors="surrogatepass")) > PASSWORD_BYTES_MAX:
        raise InvalidRequest(
            f"the password has over {PASSWORD_BYTES_MAX} bytes; use a shorter one",
            field="password",
        )


def hash_password(password: str) -> str:
    """The hash of a password, in this thread. Raises `InvalidRequest` as `check_password`."""
    check_password(password)
    return PasswordHasher.from_parameters(PARAMETERS).hash(password)


def _give_way() -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


# ---- failed attempts -----------------------------------------------------------------

DELAY_S_MIN: Final = 0.25
DELAY_S_MAX: Final = 60.0
"""After the n-th failure in a row of one user name from one network, it waits 0.25 s * 2^(n-1)."""

FORGET_S: Final = 15 * 60.0
"""Failures in a row are forgotten so long after the last one."""

FAILURES_PER_NETWORK_MAX: Final = 100
FAILURES_FORGIVEN_PER_S: Final = 1.0
"""A network may fail 100 times, with whatever user names, and once more per second."""

KEPT_MAX: Final = 10_000
"""Pairs of user name and network, and networks, that are remembered: about 3 MB."""


@dataclass(slots=True)
class _Failures:
    count: float
    last_s: float


class FailedAttempts:
    """Delays attempts after failures: of the same user name from the same network, and of a network
    with many. Others wait for neither. `clock` is in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._of_pair: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._of_network: OrderedDict[str, _Failures] = OrderedDict()

    def require_allowed(self, name: str, address: str) -> None:
        """Raise `Unauthenticated` with `retry_after_s` if this attempt is too early."""
        network = network_of(address)
        left_s = max(self._pair_waits_s((name, network)), self._network_waits_s(network))
        if left_s > 0:
            raise Unauthenticated(
                f"too many attempts with a wrong user name or password; try again after"
                f" {left_s:.2f} s",
                retry_after_s=left_s,
            )

    def failed(self, name: str, address: str) -> float:
        """Count a failure. Returns how long the next attempt must wait, in seconds."""
        network, now = network_of(address), self._clock()
        pair = self._of_pair.setdefault((name, network), _Failures(0, now))
        pair.count, pair.last_s = (1 if self._is_old(pair) else pair.count + 1), now
        _keep_last(self._of_pair, (name, network))
        of_network = self._of_network.setdefault(network, _Failures(0, now))
        of_network.count, of_network.last_s = self._level(of_network) + 1, now
        _keep_last(self._of_network, network)
        return max(self._pair_waits_s((name, network)), self._network_waits_s(network))

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of this user name from this network."""
        self._of_pair.pop((name, network_of(address)), None)

    def _pair_waits_s(self, pair: tuple[str, str]) -> float:
        found = self._of_pair.get(pair)
        if found is None or self._is_old(found):
            return 0.0
        delay_s = min(DELAY_S_MAX, DELAY_S_MIN * 2 ** min(found.count - 1, 32))
        return max(0.0, found.last_s + delay_s - self._clock())

    def _is_old(self, failures: _Failures) -> bool:
        return self._clock() - failures.last_s > FORGET_S

    def _network_waits_s(self, network: str) -> float:
        found = self._of_network.get(network)
        if found is None:
            return 0.0
        return max(0.0, (self._level(found) - FAILURES_PER_NETWORK_MAX) / FAILURES_FORGIVEN_PER_S)

    def _level(self, failures: _Failures) -> float:
        """What is left of a network's failures: a leaky bucket."""
        forgiven = (self._clock() - failures.last_s) * FAILURES_FORGIVEN_PER_S
        return max(0.0, failures.count - forgiven)


Kept = TypeVar("Kept")


def _keep_last(kept: OrderedDict[Kept, _Failures], key: Kept) -> None:
    kept.move_to_end(key)
    if len(kept) > KEPT_MAX:
        kept.popitem(last=False)
