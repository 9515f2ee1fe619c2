"""Observes rights: what is checked again at apply, withheld, refused and withdrawn; and tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jepsen_lite.sim.coverage.mark import Reach
from jepsen_lite.sim.coverage.wraps import Wraps
from raftkv.client.authentication import Authentication
from raftkv.errors import Outcome, PermissionDenied, RaftkvError
from raftkv.kv import commands as commands_module
from raftkv.kv import machine as machine_module
from raftkv.kv.auth import AuthChange
from raftkv.kv.commands import CommandRunner
from raftkv.kv.leases import Leases
from raftkv.server.authorization import Requester
from raftkv.server.watch.session import WatchSession


def observe_apply(wraps: Wraps, reach: Reach) -> None:
    """Rights in the state machine."""

    @wraps.around(CommandRunner, "_refusal_of")
    def refusal_of(original: Callable[..., Any], *args: Any) -> RaftkvError | None:
        error: RaftkvError | None = original(*args)
        reach("a command is checked again at apply")
        if error is not None:
            reach("a command is refused at apply: rights have changed since its submission")
        return error

    @wraps.around(machine_module, "withheld")
    def session_result(original: Callable[..., RaftkvError], error: RaftkvError) -> RaftkvError:
        reach("the result of a session is withheld")
        return original(error)

    @wraps.around(commands_module, "withheld")
    def named_result(original: Callable[..., RaftkvError], error: RaftkvError) -> RaftkvError:
        reach("the result under an idempotency key is withheld")
        return original(error)

    @wraps.around(machine_module, "_refusal")
    def refusal(original: Callable[..., bytes], error: RaftkvError) -> bytes:
        if isinstance(error, PermissionDenied) and error.outcome is Outcome.NOT_APPLIED:
            reach("a session of another user is refused")
        return original(error)

    @wraps.around(Leases, "require")
    def require(original: Callable[..., None], *args: Any, **kw: Any) -> None:
        try:
            original(*args, **kw)
        except PermissionDenied:
            reach("a lease of another user is refused")
            raise

    @wraps.around(AuthChange, "__init__")
    def change(original: Callable[..., None], made: AuthChange, before: Any, *args: Any) -> None:
        original(made, before, *args)
        after = made.after
        if after.enabled is not before.enabled:
            enabled = after.enabled
            reach("authentication is enabled" if enabled else "authentication is disabled")
        if before.signing_keys and after.signing_keys != before.signing_keys:
            reach("a signing key is replaced")


def observe_callers(wraps: Wraps, reach: Reach) -> None:
    """Rights at the node that takes a request, and at the client."""

    @wraps.around(Requester, "confirm_batch")
    async def confirm_batch(original: Callable[..., Any], *args: Any) -> Any:
        reach("a missing right is confirmed by a read barrier")
        author = await original(*args)
        reach("a node that lags finds a right after a read barrier")
        return author

    @wraps.around(Requester, "renew")
    def renew(original: Callable[..., None], *args: Any) -> None:
        original(*args)
        reach("a stream goes on with a newer token")

    @wraps.around(WatchSession, "_end")
    def end(original: Callable[..., None], session: Any, watch_id: int, error: RaftkvError) -> None:
        if isinstance(error, PermissionDenied):
            reach("a watch ends: its range may not be read")
        original(session, watch_id, error)

    @wraps.around(Authentication, "refused")
    def refused(original: Callable[..., bool], *args: Any) -> bool:
        reach("a node refuses a client's token")
        return original(*args)
