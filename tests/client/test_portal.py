"""The portal's end: every call has an answer in bounded time, whatever the state of its loop."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import weakref

import pytest

from raftkv.client.sync.portal import Portal
from raftkv.errors import OutcomeUnknown, Unavailable
from tests.client.interruptions import eventually


async def forever() -> None:
    await asyncio.Event().wait()


async def nothing() -> None:
    return


def test_a_stopped_portal_refuses_at_once() -> None:
    portal = Portal()
    portal.call(nothing)
    portal.stop()
    with pytest.raises(Unavailable, match="interpreter is ending"):
        portal.call(nothing)


def test_a_waiting_thread_gets_an_answer_when_the_portal_stops() -> None:
    portal, errors = Portal(), []

    def wait() -> None:
        try:
            portal.call(forever)
        except Unavailable as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert eventually(lambda: bool(portal._running))
    portal.stop()
    thread.join(5.0)
    assert len(errors) == 1


class Client:
    """Notes that it was closed."""

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


def test_stopping_closes_what_is_open_and_keeps_nothing_alive() -> None:
    portal, client, dropped = Portal(), Client(), Client()
    portal.close_at_exit(client)
    portal.close_at_exit(dropped)
    gone = weakref.ref(dropped)
    del dropped
    assert gone() is None
    portal.stop()
    assert client.closed


def test_what_a_daemon_thread_may_hold_is_left_to_its_ttl() -> None:
    """The thread still works under a lock when the interpreter ends."""
    portal, client, taken, over = Portal(), Client(), threading.Event(), threading.Event()

    def work() -> None:
        portal.hold(lambda _: None, nothing)
        taken.set()
        over.wait()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    taken.wait()
    portal.close_at_exit(client)
    portal.stop()
    assert not client.closed
    over.set()
    thread.join()


def test_a_callback_that_blocks_the_portal_blocks_no_caller_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raftkv.client.sync.portal.LOOK_S", 0.02)
    portal, unblock = Portal(), threading.Event()
    portal.finish_later(block, unblock)
    try:
        with pytest.raises(OutcomeUnknown, match="callback"):
            portal.call(nothing)
    finally:
        unblock.set()
    portal.call(nothing)
    portal.stop()


async def block(unblock: threading.Event) -> None:
    unblock.wait()


def test_the_end_of_the_process_does_not_wait_for_a_blocked_portal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raftkv.client.sync.portal.EXIT_S_MAX", 0.1)
    monkeypatch.setattr("raftkv.client.sync.portal.LOOK_S", 0.1)
    portal, unblock = Portal(), threading.Event()
    portal.finish_later(block, unblock)
    began = time.monotonic()
    portal.stop()
    assert time.monotonic() - began < 2.0
    unblock.set()


def test_a_callback_that_ends_with_system_exit_does_not_end_the_portal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    portal = Portal()
    portal._loop.call_soon_threadsafe(sys.exit, 3)
    portal.call(nothing)
    assert "a callback on raftkv's thread failed" in caplog.text
    portal.stop()
