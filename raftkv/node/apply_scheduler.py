"""When the state machine may have the loop. Knows no state machine and no disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class ApplyScheduler:
    """Lets those go first who wait for this node's disk or its messages.

    To apply a run of entries keeps the loop busy for longer than a sync or a message takes. A
    follower that did it first would hold back an acknowledgement that could leave, and with it
    everybody's commit; nobody waits as urgently for what it applies.
    """

    def __init__(self, wake: Callable[[], None], patience_s: float) -> None:
        """`wake` asks for another round. A disk that takes longer is not waited for."""
        self._wake = wake
        self._patience_s = patience_s
        self._since_s: float | None = None
        self._write: asyncio.Task[None] | None = None
        self._let_messages_go = False

    def has_come(self, write: asyncio.Task[None] | None, now_s: float, *, sends: bool) -> bool:
        """Whether to apply in this round. If not, another one will follow.

        `write` is what the node is writing to its disk and has yet to acknowledge, `sends` says
        that this round has something for the disk or for others. Each counts once for a turn:
        a later write is not waited for, and the next messages are not either.
        """
        if self._since_s is None:
            self._since_s, self._write = now_s, write
        # The end of a write, and every tick, bring a round.
        if self._write and not self._write.done() and now_s - self._since_s < self._patience_s:
            return False
        if sends and not self._let_messages_go:
            self._let_messages_go = True
            self._wake()
            return False
        self._since_s, self._write, self._let_messages_go = None, None, False
        return True
