"""The whole state of the model."""

from __future__ import annotations

from dataclasses import dataclass, field

from jepsen_lite.model.bounds import BOUNDED_VERSION, Bounds
from jepsen_lite.model.budget import Budget, record_bytes
from jepsen_lite.model.keys import Draft, Keys
from jepsen_lite.model.leases import Leases, attached
from jepsen_lite.model.memory import IdempotencyKeys, Sessions
from jepsen_lite.model.users import Users


@dataclass(slots=True)
class State:
    """All that committed entries have made; `leases.time_ms` is cluster time."""

    bounds: Bounds = field(default_factory=Bounds)
    index: int = 0
    term: int = 0
    cluster_version: int = 0
    keys: Keys = field(default_factory=Keys)
    leases: Leases = field(init=False)
    sessions: Sessions = field(init=False)
    idempotency_keys: IdempotencyKeys = field(init=False)
    users: Users = field(init=False)

    def __post_init__(self) -> None:
        self.leases = Leases(self.bounds)
        self.sessions = Sessions(self.bounds)
        self.idempotency_keys = IdempotencyKeys(self.bounds)
        self.users = Users(self.bounds)

    @property
    def time_ms(self) -> int:
        return self.leases.time_ms

    @property
    def is_bounded(self) -> bool:
        return self.cluster_version >= BOUNDED_VERSION

    def set_caller(self, user: int) -> None:
        """The next commands are those of this user, 0 for none."""
        self.users.caller = self.leases.caller = self.idempotency_keys.user = user
        self.leases.all_open = self.users.may_use_any_lease

    def end_lease(self, lease: int, budget: Budget) -> bool:
        """The lease is gone, with its session, and its keys are deleted in one revision.

        If the budget does not allow to delete all keys, the lease is over, the others follow later,
        and the result is False.
        """
        draft = Draft(self.keys)
        doomed = attached(self.keys, lease)
        for row in doomed:
            size_bytes = record_bytes(row)
            if not budget.allows_deletions(1) or not budget.allows_replaced(size_bytes):
                break
            budget.deletions += 1
            budget.replace(size_bytes)
            draft.delete(row.key)
        self.keys.commit(draft)
        if len(draft.changes) < len(doomed):
            granted = self.leases.granted[lease]
            granted.deadline_ms = min(granted.deadline_ms, self.time_ms)
            return False
        del self.leases.granted[lease]
        self.sessions.known.pop(lease, None)
        return True
