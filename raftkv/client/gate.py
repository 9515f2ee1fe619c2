"""When the next batch may leave. Knows what went wrong lately, nothing about batches.

After trouble the gate closes for a while; then a single call goes first, and its answer opens
the gate for everything that has gathered. So an outage costs the servers one small message per
pause, however many callers wait.
"""

from __future__ import annotations

import random

from raftkv.client.retry import Backoff, RetryBudget
from raftkv.client.settings import ClientSettings


class Gate:
    """Open, shut until `resume_at`, or probing: open for one call at a time."""

    def __init__(self, settings: ClientSettings, rng: random.Random, now: float) -> None:
        self._backoff = Backoff(rng, settings.backoff_s_min, settings.backoff_s_max)
        self._budget = RetryBudget(
            now,
            ratio=settings.retries_per_request,
            floor_per_s=settings.retries_per_second,
            burst=settings.retries_burst,
        )
        self._shut_at = now - 1.0
        self._failures = 0
        self.resume_at = now
        self.probing = False

    def sent(self) -> None:
        """A batch leaves for the first time."""
        self._budget.deposit()

    def answered(self) -> None:
        """A batch was answered: all is well."""
        self.probing = False
        self._failures = 0
        self._backoff.reset()

    def retried(self, now: float) -> None:
        """A batch's calls have to be sent once more; waits for a token if there is none."""
        self.resume_at = max(self.resume_at, now + self._budget.reserve_s(now))

    def refused(self, now: float, sent_at: float, retry_after_s: float) -> None:
        """A batch was refused. Those sent before the gate shut say nothing new."""
        if sent_at >= self._shut_at:
            self.shut(now, retry_after_s)

    def broken(self, now: float, endpoints: int) -> bool:
        """A stream broke: the next endpoint is tried at once, a second round is not.

        Returns whether all have been tried.
        """
        self._failures += 1
        if self._failures < endpoints:
            return False
        self.shut(now, 0.0)
        return True

    def shut(self, now: float, retry_after_s: float) -> None:
        """Let nothing pass for a while, then a single call."""
        self._shut_at = now
        self.probing = True
        self.resume_at = max(self.resume_at, now + retry_after_s, now + self._backoff.next_s())

    def shut_until(self, when: float) -> None:
        """No endpoint may be tried before."""
        self.resume_at = max(self.resume_at, when)
