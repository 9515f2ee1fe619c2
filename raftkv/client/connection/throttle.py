"""When the next batch may leave. Knows what went wrong lately, nothing about batches.

After trouble the gate closes for a while; then a single call goes first, and its answer opens
the gate for everything that has gathered. So an outage costs the servers one small message per
pause, however many callers wait.
"""

from __future__ import annotations

import enum
import random

from raftkv.backoff import Backoff
from raftkv.client.settings import ClientSettings


class Throttle:
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


class BreakerState(enum.Enum):
    """Closed lets everything through, open nothing, half-open one probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """Opens after `failures_max` failures in a row; after `cool_down_s` one probe decides."""

    def __init__(self, failures_max: int, cool_down_s: float) -> None:
        self._failures_max = failures_max
        self._cool_down_s = cool_down_s
        self._probing = False
        self.failures = 0
        self.retry_at = 0.0  # when an open breaker will let a probe through

    def state(self, now: float) -> BreakerState:
        """Where the breaker stands at `now`."""
        if self.failures < self._failures_max:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.retry_at else BreakerState.HALF_OPEN

    def allows(self, now: float) -> bool:
        """Whether a new attempt may start. Of a half-open breaker: only while none is probing."""
        state = self.state(now)
        return state is BreakerState.CLOSED or (
            state is BreakerState.HALF_OPEN and not self._probing
        )

    def begin(self, now: float) -> bool:
        """An attempt starts; true if it is a probe, which must be the only one."""
        self._probing = self.state(now) is BreakerState.HALF_OPEN
        return self._probing

    def succeeded(self) -> None:
        """The endpoint answered."""
        self._probing = False
        self.failures = 0

    def failed(self, now: float) -> None:
        """The endpoint can't be reached, went away, fell silent or is stopping."""
        self._probing = False
        self.failures += 1
        self.retry_at = now + self._cool_down_s


class RetryBudget:
    """Bounds retries to a share of the requests plus a floor, so that none can amplify an outage.

    A token bucket: each request puts `ratio` in, time puts `floor_per_s` in, each retry takes one
    out. A retry that finds the bucket empty is not refused but told to wait for its token.
    """

    def __init__(self, now: float, *, ratio: float, floor_per_s: float, burst: int) -> None:
        self._ratio = ratio
        self._floor_per_s = floor_per_s
        self._burst = float(burst)
        self._tokens = self._burst
        self._refilled_at = now

    def deposit(self) -> None:
        """A request was sent for the first time."""
        self._tokens = min(self._burst, self._tokens + self._ratio)

    def reserve_s(self, now: float) -> float:
        """Take the token of one retry; returns how long the retry has to wait for it."""
        refill = (now - self._refilled_at) * self._floor_per_s
        self._refilled_at = now
        self._tokens = min(self._burst, self._tokens + refill) - 1.0
        return max(0.0, -self._tokens / self._floor_per_s)
