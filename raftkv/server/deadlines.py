"""When a request's time is up, in the loop's time. Knows the node's default and its cap."""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.config import Settings

ANSWER_TRAVEL_S = 0.05
ANSWER_EARLY_SHARE_MAX = 0.5


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Every request has a deadline; none is infinite.

    A caller that hears nothing before its own deadline can't tell "nothing happened" from
    "maybe applied", so a unary call's deadline lies `answer_early_s` before its caller's.
    """

    default_s: float
    max_s: float
    answer_early_s: float

    @classmethod
    def of_settings(cls, settings: Settings) -> Deadlines:
        """The node looks at its deadlines once a tick, so an answer may be a tick late."""
        return cls(
            default_s=settings.request_timeout_ms_default / 1000,
            max_s=settings.request_timeout_ms_max / 1000,
            answer_early_s=settings.tick_ms / 1000 + ANSWER_TRAVEL_S,
        )

    def of_pipeline(self, now: float, timeout_ms: int) -> float:
        """From what is left of the caller's time; 0: the caller stated none."""
        return now + (min(timeout_ms / 1000, self.max_s) if timeout_ms else self.default_s)

    def of_call(self, now: float, remaining_s: float | None) -> float:
        """From what gRPC says is left; None: the caller stated none."""
        if remaining_s is None:
            return now + self.default_s
        early_s = min(self.answer_early_s, remaining_s * ANSWER_EARLY_SHARE_MAX)
        return now + min(remaining_s - early_s, self.max_s)
