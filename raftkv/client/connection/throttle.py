"""Limits what a client sends in an outage: throttle, retry budget and circuit breaker."""

from __future__ import annotations

import enum

from raftkv.backoff import Backoff
from raftkv.client.settings import ClientSettings


class Throttle:
    """When the next batch may be sent: paused until `resume_at`, then probing, then open.

    After a failure nothing is sent for a pause. Then a single call is sent, and its answer admits
    everything that has been queued meanwhile. So an outage costs the servers one small message per
    pause, whatever the number of calls.
    """

    def __init__(self, settings: ClientSettings, backoff: Backoff, now: float) -> None:
        self._backoff = backoff
        self._budget = RetryBudget(
            now,
            ratio=settings.retries_per_request,
            floor_per_s=settings.retries_per_second,
            burst=settings.retries_burst,
        )
        self._paused_at = now - 1.0
        self.resume_at = now
        self.probing = False  # one call at a time

    def sent(self) -> None:
        """A batch is sent for the first time."""
        self._budget.deposit()

    def answered(self) -> None:
        """A batch was answered: the outage, if there was one, is over."""
        self.probing = False

    def retried(self, now: float) -> None:
        """A batch's calls are sent once more: not before there is a token for them."""
        self.resume_at = max(self.resume_at, now + self._budget.reserve_s(now))

    def refused(self, now: float, sent_at: float, retry_after_s: float) -> None:
        """A batch was refused; a batch that was sent before the last pause is no new sign."""
        if sent_at >= self._paused_at:
            self.pause(now, retry_after_s)

    def pause(self, now: float, retry_after_s: float = 0.0) -> None:
        """Send nothing for a while, then a single call."""
        self._paused_at = now
        self.probing = True
        self.resume_at = max(self.resume_at, now + retry_after_s, now + self._backoff.next_s())

    def pause_until(self, when: float) -> None:
        """No endpoint may be tried before."""
        self.resume_at = max(self.resume_at, when)


class BreakerState(enum.Enum):
    """A closed breaker admits every attempt, an open one none, a half-open one a single probe."""

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
        self.retry_at = 0.0  # when an open breaker becomes half-open

    def state(self, now: float) -> BreakerState:
        """The breaker's state at `now`."""
        if self.failures < self._failures_max:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.retry_at else BreakerState.HALF_OPEN

    def allows(self, now: float) -> bool:
        """Whether a new attempt may start; in the half-open state, only while no probe runs."""
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

    A token bucket: each request adds `ratio` tokens, each second adds `floor_per_s`, each retry
    takes one. A retry that finds the bucket empty is not refused: it waits for its token.
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
