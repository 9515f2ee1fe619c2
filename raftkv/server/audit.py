"""The audit log: one event per administrative act, and per refusal of a caller.

An event has who, from where, what and the result, and never a value, a password or a token.
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.errors import RaftkvError
from raftkv.logs import Logger


class Audit:
    """Writes the events `audit`. `clock` is in seconds."""

    def __init__(self, log: Logger, clock: Callable[[], float]) -> None: ...

    def act(
        self, who: str, address: str, what: str, error: RaftkvError | None = None, **target: object
    ) -> None:
        """An administrative act `what` (such as `Auth.UserAdd`), which succeeded if `error` is
        None. `target` names what it concerns: `name=`, `role=`, `node=`, `range=`.
        """

    def refused(self, who: str, address: str, what: str, error: RaftkvError) -> None:
        """A call was refused with `Unauthenticated` or `PermissionDenied`.

        Events of one address are limited to one per second, and all together as well.
        """


def address_of(peer: str) -> str:
    """The network address in gRPC's name of a peer, without the port."""
    raise NotImplementedError
