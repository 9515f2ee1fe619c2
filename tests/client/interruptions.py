"""Interrupts synchronous calls at random moments, as a signal handler that raises does."""

from __future__ import annotations

import gc
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class Bell(BaseException):
    """What the signal handler raises."""


class Interrupter:
    """Sends this thread SIGUSR1 after a random time; `rings` in a row, for nested handlers."""

    def __init__(self, seed: int, rings: int = 1) -> None:
        self.interrupted = 0
        self.completed = 0
        self._rng = random.Random(seed)
        self._rings = rings
        self._armed = False
        self._thread_id = threading.get_ident()
        self._longest_s: dict[str, float] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within the block the handler is this one's."""
        before = signal.signal(signal.SIGUSR1, self._ring)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, before)

    def run(self, what: str, operation: Callable[[], T]) -> T | None:
        """The result of the operation, a Python function; None if it was interrupted.

        CPython looks for signals after a call of a C function, such as `next`, and after one with
        `*args`. Its result would be lost here, and not in the code under test.
        """
        # A little longer than the operation takes, so that every moment of it is met.
        delay_s = self._rng.uniform(0.0, 1.1 * self._longest_s.get(what, 0.002))
        bell = threading.Thread(target=self._send, args=(delay_s,))
        bell.start()
        result = None
        try:
            try:
                began = time.perf_counter()
                self._armed = True
                result = operation()
                self._armed = False
                took_s = time.perf_counter() - began
                self._longest_s[what] = max(took_s, 0.9 * self._longest_s.get(what, 0.0))
                self.completed += 1
            except Bell:
                self._armed = False
                self.interrupted += 1
        except Bell:  # it rang again before it was disarmed
            self._armed = False
            self.interrupted += 1
        bell.join()
        return result

    def _send(self, delay_s: float) -> None:
        time.sleep(delay_s)
        for _ in range(self._rings):
            signal.pthread_kill(self._thread_id, signal.SIGUSR1)
            if self._rings > 1:
                time.sleep(self._rng.uniform(0.0, 0.0002))

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            raise Bell


def eventually(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    """Whether the condition holds within the time; what an exception kept alive is collected."""
    until = time.monotonic() + timeout_s
    while True:
        gc.collect()
        if condition():
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
