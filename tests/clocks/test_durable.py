"""Durable clocks: after a crash at any instant no time is repeated and no received count is
lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftkv.clocks import (
    DurableHybridClock,
    DurableLamportClock,
    DurableVectorClock,
    HybridTime,
    LamportTime,
    VectorTime,
)
from raftkv.errors import DamagedData, DirectoryInUse, StorageError

Make = Callable[[Path], Any]
# Small reservations, so that many of the steps write.
MAKES: dict[str, Make] = {
    "lamport": lambda path: DurableLamportClock(path, reserved_ticks=2),
    "vector": lambda path: DurableVectorClock("me", path, reserved_ticks=2),
    "hybrid": lambda path: DurableHybridClock(path, wall_ms=lambda: 50, reserved_ms=2),
}
HEARD: dict[str, Callable[[int], Any]] = {
    "lamport": LamportTime,
    "vector": lambda number: VectorTime({"you": number}),
    "hybrid": lambda number: HybridTime(50 + number),
}
kinds = pytest.mark.parametrize("kind", MAKES)


class Crash(BaseException):
    """The machine stops here."""


@contextmanager
def crashing_at(call: int) -> Iterator[None]:
    """Stop at the `call`-th thing that is done to a disk: before it, or half-way through it."""
    calls = count(1)
    fsync, replace = os.fsync, os.replace

    def counted(act: Callable[..., None]) -> Callable[..., None]:
        def acting(*arguments: Any) -> None:
            if next(calls) == call:
                raise Crash
            act(*arguments)
            if next(calls) == call:
                raise Crash

        return acting

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", counted(fsync))
        patch.setattr(os, "replace", counted(replace))
        yield


def earlier(one: Any, other: Any) -> bool:
    return one.happened_before(other) if isinstance(one, VectorTime) else one < other


@kinds
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lives=st.lists(
        st.tuples(st.integers(1, 30), st.lists(st.none() | st.integers(0, 9), max_size=8)),
        min_size=1,
        max_size=6,
    )
)
def test_a_crash_at_any_write_leaves_a_clock_that_continues_at_a_later_time(
    kind: str, lives: list[tuple[int, list[int | None]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("clock") / "clock"
    given_out: list[Any] = []
    for crash_at, steps in lives:
        clock = MAKES[kind](path)
        try:
            with crashing_at(crash_at):
                for heard in steps:
                    told = None if heard is None else HEARD[kind](heard)
                    time = clock.tick() if told is None else clock.receive(told)
                    assert all(earlier(old, time) for old in given_out)
                    assert told is None or earlier(told, time)
                    given_out.append(time)
        except Crash:
            # A file that was being written when the machine stopped holds anything.
            path.with_name("clock.unfinished").write_bytes(b"half of")
        finally:
            clock.close()
    with MAKES[kind](path) as clock:
        assert all(earlier(old, clock.tick()) for old in given_out)


@kinds
def test_a_failed_write_issues_no_time_and_the_next_may_succeed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with MAKES[kind](tmp_path / "clock") as clock:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            before = clock.now
            with pytest.raises(StorageError, match="No space left"):
                clock.tick()
            assert clock.now == before
        assert earlier(before, clock.tick())


@kinds
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content.replace(b" 1\n", b" 2\n"),
        lambda content: b"[settings]\n",
    ],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(
    kind: str, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "clock"
    with MAKES[kind](path) as clock:
        clock.tick()
    path.write_bytes(damaged := damage(path.read_bytes()))
    for _ in range(2):
        with pytest.raises(DamagedData, match="restore it"):
            MAKES[kind](path)
    assert path.read_bytes() == damaged


def test_the_file_of_another_clock_is_refused(tmp_path: Path) -> None:
    for kind, make in MAKES.items():
        with make(tmp_path / kind) as clock:
            clock.tick()
    for kind, make in MAKES.items():
        for other in MAKES.keys() - {kind}:
            with pytest.raises(DamagedData):
                make(tmp_path / other)
    with pytest.raises(DamagedData):
        DurableVectorClock("you", tmp_path / "vector")


@kinds
def test_one_file_has_one_clock_at_a_time(kind: str, tmp_path: Path) -> None:
    with MAKES[kind](tmp_path / "clock"), pytest.raises(DirectoryInUse, match="held already"):
        MAKES[kind](tmp_path / "clock")
    MAKES[kind](tmp_path / "clock").close()


def test_a_reservation_is_one_write_for_many_ticks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (syncs.append(fd), fsync(fd)))
    with DurableLamportClock(tmp_path / "clock", reserved_ticks=1000) as clock:
        for _ in range(1000):
            clock.tick()
    assert len(syncs) == 2  # the file and its directory
    with DurableLamportClock(tmp_path / "clock") as clock:
        assert clock.tick() == LamportTime(1002)


def test_a_durable_vector_keeps_received_counts_and_retired_members(tmp_path: Path) -> None:
    with DurableVectorClock("me", tmp_path / "clock") as clock:
        clock.receive(VectorTime({"you": 7, "gone": 3}))
        last = clock.retire_member("gone")
    with DurableVectorClock("me", tmp_path / "clock") as clock:
        assert clock.now.count("you") == 7
        assert clock.now.retired == {"gone"}
        assert last.happened_before(clock.tick())
