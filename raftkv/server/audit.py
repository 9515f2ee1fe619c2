"""The audit log: one event per administrative act, and per refusal of a caller.

An event has who, from where, what, and the result. It never has a value, a password, a token or
another secret: targets are names, numbers and key ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote

from google.protobuf.message import Message

from raftkv.errors import PermissionDenied, RaftkvError, Unauthenticated, printable
from raftkv.kv.rights import Access, AdminRight, need
from raftkv.logs import LineRate, Logger, write_at_any_level
from raftkv.rpc.v1 import api_pb2

REFUSALS_PER_INTERVAL_MAX: Final = 20
"""Lines about refusals of all addresses in `LOG_INTERVAL_S`: strangers must not fill the disk."""

TEXT_CHARACTERS_MAX: Final = 256


class Audit:
    """Writes the events `audit`, which the log level does not suppress. `clock` is in seconds."""

    def __init__(self, log: Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._rate = LineRate(clock, lines_max=REFUSALS_PER_INTERVAL_MAX)

    def act(
        self,
        who: str,
        address: str,
        what: str,
        error: RaftkvError | None = None,
        /,
        **target: object,
    ) -> None:
        """An administrative act `what` (such as `Auth.UserAdd`), which succeeded if `error` is
        None. `target` names what it concerns: `name=`, `role=`, `node_id=`, `permission=`.
        Failed acts are limited as refusals are.
        """
        if isinstance(error, (Unauthenticated, PermissionDenied)):
            self.refused(who, address, what, error, **target)
        elif error is not None:
            self._limited("failed", who, address, what, error, target)
        else:
            facts = {"result": "done", "who": who, "address": address, "what": what}
            write_at_any_level(self._log, "info", "audit", **facts, **target)

    def refused(
        self, who: str, address: str, what: str, error: RaftkvError, /, **target: object
    ) -> None:
        """A call was refused with `Unauthenticated` or `PermissionDenied`.

        Events are limited to one per second and address, and over all addresses as well; the next
        one has the number of `suppressed` ones.
        """
        self._limited("refused", who, address, what, error, target)

    def of_operator(self, what: str, file: str, error: RaftkvError | None = None) -> None:
        """An act that whoever can write this node's disk has asked for with a file."""
        result = "done" if error is None else "failed"
        why = {} if error is None else {"reason": error.reason}
        facts = {"result": result, "who": "the operator of this node's disk", "address": file}
        write_at_any_level(self._log, "warning", "audit", **facts, what=what, **why)

    def _limited(
        self,
        result: str,
        who: str,
        address: str,
        what: str,
        error: RaftkvError,
        target: Mapping[str, object],
    ) -> None:
        suppressed = self._rate.admit(network_of(address))
        if suppressed is None:
            return
        facts = {"result": result, "who": who, "address": address, "what": what, **target}
        why = {"reason": error.reason, "outcome": str(error.outcome)}
        if missing := error.facts.get("missing"):
            why["missing"] = missing
        write_at_any_level(self._log, "warning", "audit", **facts, **why, **suppressed)


_TARGETS: Final = (
    *("name", "user", "role", "id", "ttl_ms", "revision", "level"),
    *("node_id", "old_id", "new_id", "disk_id", "force"),
)
"""The fields of requests that may be in the audit log. All others may not: values and passwords."""


def target_of(request: Message) -> dict[str, object]:
    """What a request of an administrative act concerns, without what is secret in it."""
    target: dict[str, object] = {}
    for name in _TARGETS:
        if found := getattr(request, name, None):
            target[name] = _quoted(found) if isinstance(found, str) else found
    if isinstance(request, (api_pb2.MemberAddRequest, api_pb2.MemberUpdateRequest)):
        target["node_id"] = request.member.node_id
    elif isinstance(request, (api_pb2.RoleGrantRequest, api_pb2.RoleRevokeRequest)):
        granted = request.permission
        if request.HasField("permission"):
            range_ = need(Access(granted.access), granted.key, granted.range_end)
            target["permission"] = str(range_)[:TEXT_CHARACTERS_MAX]
        else:
            right: int = request.admin_right
            target["admin_right"] = (
                str(AdminRight(right)) if right in AdminRight._value2member_map_ else right
            )
    return target


def _quoted(text: str) -> str:
    """The text without what would end a line or change a terminal, and not long."""
    return printable(text[:TEXT_CHARACTERS_MAX].encode(errors="replace"))


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
