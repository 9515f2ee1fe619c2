"""What is remembered so that a retry runs once: results of sessions and of idempotency keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from jepsen_lite.model.bounds import (
    IDEMPOTENCY_TTL_MAX_MS,
    IDEMPOTENCY_TTL_MS,
    SEQUENCE_MAX,
    Bounds,
)
from jepsen_lite.model.refusals import Refusal
from raftkv.rpc.v1 import kv_pb2


@dataclass(slots=True)
class SessionMemory:
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
    known: dict[int, SessionMemory] = field(default_factory=dict)

    def remembered(self, batch: kv_pb2.CommandBatch) -> kv_pb2.BatchResult | None:
        """The result of the batch, if it has run and its client has not acknowledged it."""
        session = self.known.get(batch.session)
        return session.results.get(batch.sequence) if session is not None else None

    def check_usable(self, batch: kv_pb2.CommandBatch, *, bounded: bool) -> None:
        """The batch may run, and its result may be remembered."""
        session = self.known.get(batch.session, SessionMemory())
        if batch.acknowledged >= batch.sequence:
            raise Refusal("INVALID_REQUEST")
        if batch.sequence <= session.acknowledged:
            raise Refusal("OUTCOME_UNKNOWN")
        freed = sum(each <= batch.acknowledged for each in session.results)
        if len(session.results) - freed >= self.bounds.results_per_session:
            raise Refusal("OVERLOADED")
        if not bounded:
            return
        if batch.sequence > SEQUENCE_MAX:
            raise Refusal("INVALID_REQUEST")
        if batch.session not in self.known and len(self.known) >= self.bounds.sessions:
            raise Refusal("OVERLOADED")
        results = sum(len(each.results) for each in self.known.values())
        if results - freed >= self.bounds.results:
            raise Refusal("OVERLOADED")


@dataclass(frozen=True, slots=True)
class Named:
    """A command that a user ran under an idempotency key, and its result."""

    user: int
    command: bytes
    expires_ms: int
    result: kv_pb2.Result


@dataclass(slots=True)
class IdempotencyKeys:
    """The named commands, also those whose lifetime is over and that are not yet removed."""

    bounds: Bounds
    named: dict[bytes, Named] = field(default_factory=dict)
    """By the user's id in 8 bytes, if there is a user, and the idempotency key."""
    user: int = 0
    """The user who has sent the command that runs: each has names of his own."""

    def _name(self, command: kv_pb2.Command) -> bytes:
        return (self.user.to_bytes(8, "big") if self.user else b"") + command.idempotency_key

    def _found(self, command: kv_pb2.Command, time_ms: int) -> Named | None:
        found = self.named.get(self._name(command))
        return found if found is not None and found.expires_ms > time_ms else None

    def has_run(self, command: kv_pb2.Command, time_ms: int) -> bool:
        """Something has run under this command's name, which still lives."""
        return bool(command.idempotency_key) and self._found(command, time_ms) is not None

    def remembered(self, command: kv_pb2.Command, time_ms: int) -> kv_pb2.Result | None:
        """The first result under this command's name, if it still lives."""
        found = self._found(command, time_ms)
        if found is None:
            return None
        if (found.user, found.command) != (self.user, fingerprint(command)):
            raise Refusal("IDEMPOTENCY_KEY_REUSED")
        return found.result

    def check_room(self, *, bounded: bool) -> None:
        if bounded and len(self.named) >= self.bounds.idempotency_keys:
            raise Refusal("OVERLOADED")

    def remember(self, command: kv_pb2.Command, result: kv_pb2.Result, time_ms: int) -> None:
        asked_ms = command.idempotency_ttl_ms
        ttl_ms = min(asked_ms, IDEMPOTENCY_TTL_MAX_MS) if asked_ms > 0 else IDEMPOTENCY_TTL_MS
        expires_ms = time_ms + ttl_ms
        named = Named(self.user, fingerprint(command), expires_ms, result)
        self.named[self._name(command)] = named

    def remove_expired(self, time_ms: int, rows_max: int) -> None:
        """Forget at most so many whose lifetime is over, the earliest first."""
        ended = [each for each, named in self.named.items() if named.expires_ms <= time_ms]
        ended.sort(key=lambda each: (self.named[each].expires_ms, each))
        for each in ended[:rows_max]:
            del self.named[each]


def fingerprint(command: kv_pb2.Command) -> bytes:
    """What makes two commands under one idempotency key the same one: all but the name itself."""
    bare = kv_pb2.Command()
    bare.CopyFrom(command)
    bare.ClearField("idempotency_key")
    bare.ClearField("idempotency_ttl_ms")
    return bare.SerializeToString(deterministic=True)
