"""The queues of locks and elections, which are keys, and fences."""

from __future__ import annotations

from jepsen_lite.model.keys import Draft, Version
from jepsen_lite.model.leases import Leases
from jepsen_lite.model.refusals import Refusal


def entry_key(name: bytes, token: int) -> bytes:
    return name + b"/" + f"{token:016x}".encode()


def entries(draft: Draft, name: bytes) -> list[Version]:
    """The queue: the holder's entry, then those that wait.

    An entry whose lease is over keeps its place until upkeep has deleted its key.
    """
    return [
        each
        for each in draft.range(name + b"/", name + b"0")
        if each.key == entry_key(name, each.create_revision)
    ]


def check_fence(draft: Draft, leases: Leases, name: bytes, token: int) -> None:
    """The token is that of the present holder, whose lease lives."""
    queue = entries(draft, name)
    holder = queue[0].create_revision if queue and leases.is_alive(queue[0].lease) else 0
    if not holder or holder != token:
        raise Refusal("FENCED_OFF", holder_token=holder)
