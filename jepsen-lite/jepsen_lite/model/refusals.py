"""Commands that fail: the reason and outcome of docs/reference/errors.md."""

from __future__ import annotations

from typing import Final

from raftkv.rpc.v1 import kv_pb2

OUTCOMES: Final = {
    "INVALID_REQUEST": kv_pb2.OUTCOME_NOT_APPLIED,
    "REVISION_COMPACTED": kv_pb2.OUTCOME_NOT_APPLIED,
    "REVISION_IN_FUTURE": kv_pb2.OUTCOME_NOT_APPLIED,
    "TOO_LARGE": kv_pb2.OUTCOME_NOT_APPLIED,
    "LEASE_NOT_FOUND": kv_pb2.OUTCOME_NOT_APPLIED,
    "LEASE_EXISTS": kv_pb2.OUTCOME_NOT_APPLIED,
    "REFUSED": kv_pb2.OUTCOME_NOT_APPLIED,
    "KEY_NOT_FOUND": kv_pb2.OUTCOME_NOT_APPLIED,
    "SESSION_EXPIRED": kv_pb2.OUTCOME_NOT_APPLIED,
    "IDEMPOTENCY_KEY_REUSED": kv_pb2.OUTCOME_NOT_APPLIED,
    "FENCED_OFF": kv_pb2.OUTCOME_NOT_APPLIED,
    "TOO_MANY_KEYS": kv_pb2.OUTCOME_NOT_APPLIED,
    "UNAUTHENTICATED": kv_pb2.OUTCOME_NOT_APPLIED,
    "PERMISSION_DENIED": kv_pb2.OUTCOME_NOT_APPLIED,
    "USER_NOT_FOUND": kv_pb2.OUTCOME_NOT_APPLIED,
    "USER_EXISTS": kv_pb2.OUTCOME_NOT_APPLIED,
    "ROLE_NOT_FOUND": kv_pb2.OUTCOME_NOT_APPLIED,
    "ROLE_EXISTS": kv_pb2.OUTCOME_NOT_APPLIED,
    "TOKEN_NOT_FOUND": kv_pb2.OUTCOME_NOT_APPLIED,
    "OVERLOADED": kv_pb2.OUTCOME_SAFE_TO_RETRY,
    "OUTCOME_UNKNOWN": kv_pb2.OUTCOME_MAYBE_APPLIED,
}


class Refusal(Exception):
    """A command or batch fails and changes nothing. `facts` are those that errors.md documents."""

    withheld = False
    """Whether it has run before, and its result is not for the caller."""

    def __init__(self, reason: str, **facts: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.facts = facts

    @property
    def may_succeed_later(self) -> bool:
        return OUTCOMES[self.reason] == kv_pb2.OUTCOME_SAFE_TO_RETRY

    @property
    def failure(self) -> kv_pb2.Failure:
        return kv_pb2.Failure(
            reason=self.reason,
            outcome=kv_pb2.OUTCOME_MAYBE_APPLIED if self.withheld else OUTCOMES[self.reason],
            facts={name: str(value) for name, value in self.facts.items()},
        )
