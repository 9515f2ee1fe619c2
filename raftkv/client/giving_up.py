"""What is said to a caller whose time was up before its turn came. Knows words, not queues."""

from __future__ import annotations

from raftkv.errors import DeadlineExceeded, LockNotAcquired, RaftkvError


def too_late(name: bytes, wanted: str, others: str, *, behind: bool) -> RaftkvError:
    """The error that tells the truth: `behind` says that somebody was known to be in front.

    Without that, nobody knows whether the name is held, nor whether it was an outage or the time
    was too short for an answer: the place in its queue may not even have been taken. It is given
    back in the background if it was, so trying again is safe.
    """
    if behind:
        return LockNotAcquired(f"{wanted}: {others}", name=name)
    return DeadlineExceeded(
        f"{wanted}: no answer came by then, so whether {others} is not known; a place in its queue"
        " that was asked for is given back, or ends with its lease; try again, or give it more"
        " time",
        name=name,
    )
