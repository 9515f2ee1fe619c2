"""The whole state of the model."""

from __future__ import annotations

from dataclasses import dataclass, field

from jepsen_lite.model.bounds import BOUNDED_VERSION, Bounds
from jepsen_lite.model.keys import Draft, Keys
from jepsen_lite.model.leases import Leases, attached_keys
from jepsen_lite.model.memory import IdempotencyKeys, Sessions


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

    def __post_init__(self) -> None:
        self.leases = Leases(self.bounds)
        self.sessions = Sessions(self.bounds)
        self.idempotency_keys = IdempotencyKeys(self.bounds)

    @property
    def time_ms(self) -> int:
        return self.leases.time_ms

    @property
    def is_bounded(self) -> bool:
        return self.cluster_version >= BOUNDED_VERSION

    def end_lease(self, lease: int) -> int:
        """The lease is gone, with its session, and its keys are deleted in one revision. Returns
        the number of keys.
        """
        doomed = attached_keys(self.keys, lease)
        draft = Draft(self.keys)
        for key in doomed:
            draft.delete(key)
        self.keys.commit(draft)
        del self.leases.granted[lease]
        self.sessions.known.pop(lease, None)
        return len(doomed)
