"""A circuit breaker: keeps calls away from an endpoint that fails. Time is a parameter."""

from __future__ import annotations

import enum


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
