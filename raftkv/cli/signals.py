"""Signals as an asyncio program wants them: handed to whoever is in charge at the moment."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PASSED_ON = (*ENDING, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def ignored(number: signal.Signals) -> bool:
    """Whether whoever started this process had it ignore the signal, as nohup does and as shells do
    for what they run in the background. Then it stays so.
    """
    return signal.getsignal(number) is signal.SIG_IGN


class Signals:
    """Within the block, these signals go to `receiver`, which may be replaced, unless they are
    `ignored`. Main thread only.
    """

    def __init__(self, numbers: tuple[signal.Signals, ...]) -> None:
        self.received: signal.Signals | None = None
        self.receiver: Callable[[signal.Signals], object] = lambda _: None
        self._numbers = [number for number in numbers if not ignored(number)]
        self._loop = asyncio.get_running_loop()

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that the last signal has ended."""
        return 128 + (self.received or 0)

    def cancel(self, task: asyncio.Task[object] | None) -> None:
        """From now on each of them cancels this task."""
        self.receiver = lambda _: task is not None and task.cancel()

    def __enter__(self) -> Self:
        for number in self._numbers:
            self._loop.add_signal_handler(number, self._receive, number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number in self._numbers:
            self._loop.remove_signal_handler(number)

    def _receive(self, number: signal.Signals) -> None:
        self.received = number
        self.receiver(number)
