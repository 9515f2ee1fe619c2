"""A place in the queue of a name, for as long as it can be trusted."""

from __future__ import annotations

from typing import Final

from raftkv.client.kept_leases import KeptLease
from raftkv.client.loss import Losable, loss_message
from raftkv.errors import LockLost, printable

REMOVED: Final = "its key was deleted or its lease was revoked by somebody else"


class Place(Losable):
    """A place in the queue of `name`: lost when `lease` is, or when its key is removed.

    Other places stand on the same lease; the removal of one key is no loss of theirs.
    """

    def __init__(self, name: bytes, key: bytes, token: int, lease: KeptLease) -> None:
        super().__init__(lease.loop)
        self.name = name
        self.key = key
        self.token = token
        self.lease = lease
        self.is_removed = False
        self._on_lease = lease.listen(self._report_loss)

    def remaining(self) -> float:
        """For how many seconds it can be trusted if no renewal succeeds; 0 once it is lost."""
        return 0.0 if self.is_removed else self.lease.remaining()

    def check(self, what: str = "") -> None:
        """Raise `LockLost`, as `error` makes it, if it can't be trusted now."""
        if not self.remaining():
            raise self.error(what)

    def error(self, what: str = "") -> LockLost:
        """What to tell an owner that has lost it; `what` stood on it, if that has a name."""
        what = what or str(self)
        if self.is_removed:
            return LockLost(loss_message(what, REMOVED), name=self.name, lease=self.lease.id)
        return self.lease.error(what)

    def remove(self) -> None:
        """Its key is gone, and its owner has not left it; no news if its lease was lost before."""
        if self.remaining():
            self.is_removed = True
            self._report_loss()

    def leave(self) -> None:
        """Its owner leaves it: nothing that happens from here on is a loss."""
        self.lease.forget(self._on_lease)
        self._listeners.clear()

    def __str__(self) -> str:
        return f"the place in the queue of {printable(self.name)}"
