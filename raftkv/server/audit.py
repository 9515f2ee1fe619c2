"""The audit log: one event per administrative act, and per refusal of a caller.

An event has who, from where, what, and the result. It never has a value, a password, a token or
another secret: targets are names, numbers and key ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote

from raftkv.errors import PermissionDenied, RaftkvError, Unauthenticated
from raftkv.logs import LineRate, Logger, write_at_any_level

REFUSALS_PER_INTERVAL_MAX: Final = 20
"""Lines about refusals of all addresses in `LOG_INTERVAL_S`: strangers must not fill the disk."""


class Audit:
    """Writes the events `audit`, which the log level does not suppress. `clock` is in seconds."""

    def __init__(self, log: Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._rate = LineRate(clock, lines_max=REFUSALS_PER_INTERVAL_MAX)

    def act(
        self, who: str, address: str, what: str, error: RaftkvError | None = None, **target: object
    ) -> None:
        """An administrative act `what` (such as `Auth.UserAdd`), which succeeded if `error` is
        None. `target` names what it concerns: `name=`, `role=`, `node_id=`, `range=`.
        """
        if isinstance(error, (Unauthenticated, PermissionDenied)):
            self.refused(who, address, what, error, **target)
            return
        result = "done" if error is None else "failed"
        why = {} if error is None else {"reason": error.reason, "outcome": str(error.outcome)}
        facts = {"result": result, "user": who, "address": address, "what": what}
        write_at_any_level(self._log, "info", "audit", **facts, **target, **why)

    def refused(
        self, who: str, address: str, what: str, error: RaftkvError, **target: object
    ) -> None:
        """A call was refused with `Unauthenticated` or `PermissionDenied`.

        Events are limited to one per second and address, and over all addresses as well; the next
        one has the number of `suppressed` ones.
        """
        suppressed = self._rate.admit(network_of(address))
        if suppressed is None:
            return
        missing = error.facts.get("missing")
        write_at_any_level(
            self._log,
            "warning",
            "audit",
            result="refused",
            user=who,
            address=address,
            what=what,
            **target,
            reason=error.reason,
            **({"missing": missing} if missing else {}),
            **suppressed,
        )

    @contextmanager
    def acting(self, who: str, address: str, what: str, **target: object) -> Iterator[None]:
        """Write the event of the act that the body carries out, with its result."""
        try:
            yield
        except RaftkvError as error:
            self.act(who, address, what, error, **target)
            raise
        self.act(who, address, what, **target)


def address_of(peer: str) -> str:
    """The network address in gRPC's name of a peer (`ipv4:127.0.0.1:5000`), without the port."""
    name = unquote(peer)
    if name.startswith(("ipv4:", "ipv6:")):
        return name[len("ipv4:") :].rpartition(":")[0].strip("[]")
    return name


def network_of(address: str) -> str:
    """The address, or of IPv6 the network of 64 bits, all of which one host may use."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return address
