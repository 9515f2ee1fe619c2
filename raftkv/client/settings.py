"""The settings of a client: its limits, timeouts and intervals."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from raftkv.arguments import INT64_MAX, TIMEOUT_S_MAX, shown
from raftkv.errors import ConfigurationError

TIMER_TOLERANCE_S: Final = 0.0001
"""By how much an event loop may run a timer too early, as its clock is that coarse. What is due
within this time is done at once: waiting for the rest would be a busy loop.
"""

CLOSE_GRACE_S: Final = 1.0
"""How long closing waits until leases and session are revoked; after that their TTL ends them."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Every limit, timeout and interval of a client; sizes are those of a server's default limits.

    Raises `ConfigurationError` for a number that is not positive and finite, and for a wrong type.
    """

    # Whether the client also connects to members that the cluster lists and the user did not give.
    follow_members: bool = True
    timeout_s_max: float = 60.0  # no call waits longer, whatever its caller asks for
    sweep_interval_s: float = 0.025  # how often deadlines are checked
    session_ttl_ms: int = 60_000

    batches_in_flight_max: int = 8  # of each queue; further calls make the next batch bigger
    batch_operations_max: int = 1_000
    batch_bytes_max: int = 1 << 20

    key_bytes_max: int = 8_192
    value_bytes_max: int = 1 << 20
    request_bytes_max: int = 3 << 19
    transaction_operations_max: int = 128
    transaction_depth_max: int = 32
    page_keys_max: int = 1_000  # of a range that is too large for one reply or read

    # How often a client in use asks for leader and members: all given endpoints may be replaced. An
    # endpoint that answers for another cluster is tried again after this long.
    look_around_s: float = 5.0
    # How long `connect` waits for the other endpoints once a leader has answered, to see if they
    # belong to the leader's cluster. A silent endpoint delays `connect` by this much.
    connect_grace_s: float = 0.3
    # A node that owes a reply and sends nothing for this long is left for another one.
    silence_s_max: float = 2.0
    # A node that sends nothing on a watch for this long is asked for its progress.
    watch_heartbeat_s: float = 1.0
    watch_buffer_bytes_max: int = 4 << 20  # of events that a watch's consumer has not taken yet
    backoff_s_min: float = 0.01
    backoff_s_max: float = 0.25
    # Retries may add this share to the requests, and this many per second on top.
    retries_per_request: float = 0.1
    retries_per_second: float = 10.0
    retries_burst: int = 100
    breaker_failures_max: int = 3
    breaker_cool_down_s: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            is_flag = isinstance(value, bool)
            if field.type == "bool":
                valid, wanted = is_flag, "True or False"
            elif field.type == "int":
                valid = isinstance(value, int) and not is_flag and 0 < value <= INT64_MAX
                wanted = f"an int from 1 to {INT64_MAX}"
            else:
                valid = (
                    isinstance(value, int | float) and not is_flag and 0 < value <= TIMEOUT_S_MAX
                )
                wanted = f"a number above 0, at most {TIMEOUT_S_MAX}"
            if not valid:
                raise ConfigurationError(
                    f"{field.name} is {shown(value)}; give {wanted}", setting=field.name
                )
