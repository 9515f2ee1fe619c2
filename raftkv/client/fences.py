"""Fences as callers write them: under whose token a command may run. Knows no lock.

await client.put("report", data, fence=lock)
await client.put("report", data, fence=("locks/report", token))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias, cast

from raftkv.arguments import to_int64
from raftkv.client.settings import ClientSettings
from raftkv.client.values import to_key
from raftkv.errors import InvalidRequest
from raftkv.rpc import kv_pb2


class Holding(Protocol):
    """Something that holds a name under a token: a lock, a leadership, a grant."""

    @property
    def name(self) -> bytes: ...
    @property
    def token(self) -> int:
        """Raises `LockLost` if it is known not to be held any more."""


Fence: TypeAlias = Holding | tuple[str | bytes, int]
"""The command runs only while the token is that of the name's holder, else it is `FencedOff`."""

Fences: TypeAlias = Fence | Sequence[Fence] | None


def set_fences(command: kv_pb2.Command, fence: Fences, settings: ClientSettings) -> None:
    """Let the command run only while all of these hold.

    Raises `InvalidRequest` for what is no fence, `LockLost` for a lock that is not held any more.
    """
    if fence is None:
        return
    for name, token in _pairs(fence):
        command.fences.add(
            name=to_key(name, settings, "the fence's name"),
            token=to_int64(token, "the fence's token", 1),
        )
    if not command.fences:
        raise InvalidRequest("fence is an empty list; give a lock, or None for no fence")


def _pairs(fence: Fence | Sequence[Fence]) -> Iterator[tuple[str | bytes, int]]:
    if isinstance(fence, tuple) and len(fence) == 2 and isinstance(fence[0], (str, bytes)):
        yield fence
    elif isinstance(fence, Sequence) and not isinstance(fence, (str, bytes)):
        for each in fence:
            yield from _pairs(cast(Fence, each))
    elif getattr(fence, "shared", False):
        raise InvalidRequest(
            f"the fence {fence!r} is held by several at once, so its token fences nobody off; give"
            " the lock of a writer, or compare `when.create_revision(lock.key) == lock.token`",
            field="fence",
        )
    elif hasattr(fence, "name") and hasattr(fence, "token"):  # LockLost passes through `hasattr`
        yield fence.name, fence.token
    else:
        raise InvalidRequest(
            f"fence is a {type(fence).__name__}; give a lock, a grant, (name, token), or a list of"
            " these",
            field="fence",
        )
