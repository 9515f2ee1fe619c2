"""What is remembered so that a retry runs once: results of sessions and of idempotency keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from jepsen_lite.model.bounds import IDEMPOTENCY_TTL_MS, Bounds
from jepsen_lite.model.refusals import Refusal
from raftkv.rpc.v1 import kv_pb2


@dataclass(slots=True)
class Session:
    """The results that a session's client has not acknowledged yet, by sequence."""

    acknowledged: int = 0
    results: dict[int, kv_pb2.BatchResult] = field(default_factory=dict)

    def acknowledge(self, sequence: int) -> None:
        self.acknowledged = max(self.acknowledged, sequence)
        for each in [each for each in self.results if each <= self.acknowledged]:
            del self.results[each]


@dataclass(slots=True)
class Sessions:
    """The sessions that have sent a batch, by their lease."""

    bounds: Bounds
    known: dict[int, Session] = field(default_factory=dict)

    def of(self, session: int, *, bounded: bool) -> Session:
        """The session, which is counted from its first use on."""
        if session not in self.known:
            if bounded and len(self.known) >= self.bounds.sessions:
                raise Refusal("OVERLOADED")
            self.known[session] = Session()
        return self.known[session]

    def check_room(self, session: Session) -> None:
        """One more result may be remembered."""
        if len(session.results) >= self.bounds.results_per_session:
            raise Refusal("OVERLOADED")
        if sum(len(each.results) for each in self.known.values()) >= self.bounds.results:
            raise Refusal("OVERLOADED")


@dataclass(frozen=True, slots=True)
class Named:
    """A command that ran under an idempotency key, and its result."""

    command: bytes
    expires_ms: int
    result: kv_pb2.Result


@dataclass(slots=True)
class IdempotencyKeys:
    """The named commands, also those whose lifetime is over and that are not yet removed."""

    bounds: Bounds
    named: dict[bytes, Named] = field(default_factory=dict)

    def remembered(self, command: kv_pb2.Command, time_ms: int) -> kv_pb2.Result | None:
        """The first result under this command's name, if it still lives."""
        found = self.named.get(command.idempotency_key)
        if found is None or found.expires_ms < time_ms:
            return None
        if found.command != fingerprint(command):
            raise Refusal("IDEMPOTENCY_KEY_REUSED")
        return found.result

    def check_room(self, *, bounded: bool) -> None:
        if bounded and len(self.named) >= self.bounds.idempotency_keys:
            raise Refusal("OVERLOADED")

    def remember(self, command: kv_pb2.Command, result: kv_pb2.Result, time_ms: int) -> None:
        ttl_ms = command.idempotency_ttl_ms or IDEMPOTENCY_TTL_MS
        self.named[command.idempotency_key] = Named(
            fingerprint(command), time_ms + ttl_ms, result
        )

    def remove_expired(self, time_ms: int, rows_max: int) -> int:
        """Forget at most so many whose lifetime is over, the earliest first."""
        ended = [each for each, named in self.named.items() if named.expires_ms < time_ms]
        ended.sort(key=lambda each: (self.named[each].expires_ms, each))
        for each in ended[:rows_max]:
            del self.named[each]
        return len(ended[:rows_max])


def fingerprint(command: kv_pb2.Command) -> bytes:
    """What makes two commands under one idempotency key the same one: all but the name itself."""
    bare = kv_pb2.Command()
    bare.CopyFrom(command)
    bare.ClearField("idempotency_key")
    bare.ClearField("idempotency_ttl_ms")
    return bare.SerializeToString(deterministic=True)
