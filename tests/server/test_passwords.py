"""Passwords are hashed in turns between addresses; failed attempts delay only their own kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event

import argon2
import pytest

from raftkv.errors import InvalidRequest, Overloaded, Unauthenticated
from raftkv.server import passwords
from raftkv.server.passwords import FailedAttempts, PasswordHashing, hash_password

ATTACKER, CLIENT = "192.0.2.1", "192.0.2.2"
PATIENCE_S = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def wait_s(attempts: FailedAttempts, name: str, address: str) -> float:
    try:
        attempts.require_allowed(name, address)
    except Unauthenticated as error:
        return error.retry_after_s
    return 0.0


def test_each_failure_in_a_row_doubles_the_delay_of_its_user_name_and_address() -> None:
    clock = Clock()
    attempts = FailedAttempts(clock)
    delays = []
    for _ in range(10):
        delays.append(attempts.failed("root", ATTACKER))
        assert wait_s(attempts, "root", ATTACKER) == delays[-1]
        clock.now += delays[-1]
        assert wait_s(attempts, "root", ATTACKER) == 0
    assert delays == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_failures_delay_neither_other_users_nor_other_addresses() -> None:
    attempts = FailedAttempts(Clock())
    for _ in range(10):
        attempts.failed("root", ATTACKER)
    assert wait_s(attempts, "root", ATTACKER) > 0
    assert wait_s(attempts, "root", CLIENT) == wait_s(attempts, "app", ATTACKER) == 0


def test_a_success_and_time_forget_failures() -> None:
    clock = Clock()
    attempts = FailedAttempts(clock)
    for _ in range(5):
        attempts.failed("app", CLIENT)
    attempts.succeeded("app", CLIENT)
    assert attempts.failed("app", CLIENT) == passwords.DELAY_S_MIN
    attempts.failed("app", CLIENT)
    clock.now += passwords.FORGET_S + 1
    assert attempts.failed("app", CLIENT) == passwords.DELAY_S_MIN


def test_an_address_that_tries_many_user_names_must_wait_with_all() -> None:
    clock = Clock()
    attempts = FailedAttempts(clock)
    for number in range(passwords.FAILURES_PER_NETWORK_MAX + 3):
        attempts.failed(f"user-{number}", "2001:db8::1")
    same_network = "2001:db8::ffff"
    assert wait_s(attempts, "root", same_network) == pytest.approx(3)
    assert wait_s(attempts, "root", "2001:db8:0:1::1") == 0
    clock.now += 3
    assert wait_s(attempts, "root", same_network) == 0


def test_what_is_remembered_of_failures_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "KEPT_MAX", 10)
    attempts = FailedAttempts(Clock())
    for number in range(30):
        attempts.failed(f"user-{number}", f"192.0.2.{number}")
    assert len(attempts._of_pair) == len(attempts._of_network) == 10
    assert wait_s(attempts, "user-29", "192.0.2.29") > 0


# ---- turns ---------------------------------------------------------------------------


class Hashes:
    """Hashes that end when the test lets them."""

    def __init__(self, hashing: PasswordHashing) -> None:
        self.hashing = hashing
        self.began: list[str] = []
        self._gates: list[Event] = []

    def start(self, name: str, address: str) -> asyncio.Task[None]:
        gate = Event()
        self._gates.append(gate)

        def work() -> None:
            assert gate.wait(PATIENCE_S)

        return asyncio.create_task(
            self.hashing._run(address, work, lambda: self.began.append(name))
        )

    def end_all(self) -> None:
        for gate in self._gates:
            gate.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - of threads
            await asyncio.sleep(0.001)


async def test_an_address_that_sends_many_passwords_delays_its_own() -> None:
    hashes = Hashes(PasswordHashing())
    tasks = [hashes.start(f"attacker {number}", ATTACKER) for number in range(20)]
    await until(lambda: len(hashes.began) == passwords.HASHES_AT_ONCE)
    tasks.append(hashes.start("client", CLIENT))
    await asyncio.sleep(0)
    hashes.end_all()
    await asyncio.gather(*tasks)
    assert hashes.began.index("client") <= passwords.HASHES_AT_ONCE + 1
    hashes.hashing.close()


async def test_the_passwords_that_wait_are_bounded_per_address_and_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passwords, "WAITING_PER_NETWORK_MAX", 2)
    monkeypatch.setattr(passwords, "WAITING_MAX", 3)
    hashes = Hashes(PasswordHashing())
    tasks = [hashes.start("attacker", ATTACKER) for _ in range(passwords.HASHES_AT_ONCE + 2)]
    await asyncio.sleep(0)
    for address, refused in ((ATTACKER, True), (CLIENT, False), ("192.0.2.3", True)):
        task = hashes.start("another", address)
        await asyncio.sleep(0)
        if refused:
            with pytest.raises(Overloaded) as caught:
                await task
            assert caught.value.retry_after_s > 0
        else:
            tasks.append(task)
    hashes.end_all()
    await asyncio.gather(*tasks)
    hashes.hashing.close()


async def test_a_caller_who_leaves_frees_a_thread_only_when_its_hash_has_ended() -> None:
    hashes = Hashes(PasswordHashing())
    tasks = [hashes.start(str(number), CLIENT) for number in range(passwords.HASHES_AT_ONCE + 2)]
    await until(lambda: len(hashes.began) == passwords.HASHES_AT_ONCE)
    for task in tasks[:-1]:  # two are being hashed, one waits
        task.cancel()
    await asyncio.gather(*tasks[:-1], return_exceptions=True)
    assert len(hashes.began) == passwords.HASHES_AT_ONCE
    hashes.end_all()
    await tasks[-1]
    assert hashes.began[-1] == str(passwords.HASHES_AT_ONCE + 1)
    hashes.hashing.close()


async def test_a_password_fits_its_hash_only(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = argon2.Parameters(argon2.Type.ID, 19, 16, 32, 1, 8, 1)
    monkeypatch.setattr(passwords, "PARAMETERS", cheap)
    hashing = PasswordHashing()
    stored = await hashing.hash("secret", CLIENT)
    assert stored != await hashing.hash("secret", CLIENT), "salted"
    assert await hashing.verify("secret", stored, CLIENT, lambda: None)
    assert await hashing.verify("secret", hash_password("secret"), CLIENT, lambda: None)
    assert not await hashing.verify("Secret", stored, CLIENT, lambda: None)
    assert not await hashing.verify("secret", "", CLIENT, lambda: None)
    assert not await hashing.verify("secret", "damaged", CLIENT, lambda: None)
    for wrong in ("", "x" * 1025):
        with pytest.raises(InvalidRequest):
            await hashing.hash(wrong, CLIENT)
    hashing.close()


def test_the_parameters_are_those_of_rfc_9106_for_little_memory() -> None:
    assert passwords.PARAMETERS.memory_cost == 64 * 1024
    assert passwords.PARAMETERS.time_cost == 3
    assert passwords.PARAMETERS.type is argon2.Type.ID
