"""The queues of locks and elections, which are keys, and fences."""

from __future__ import annotations

from jepsen_lite.model.keys import Draft, Version
from jepsen_lite.model.leases import Leases
from jepsen_lite.model.refusals import Refusal

TOKEN_DIGITS = 16
HEX_DIGITS = frozenset(b"0123456789abcdef")


def entry_key(name: bytes, token: int) -> bytes:
    return name + b"/" + f"{token:0{TOKEN_DIGITS}x}".encode()


def is_entry_of(key: bytes, name: bytes) -> bool:
    digits = key[len(name) + 1 :]
    return (
        key.startswith(name + b"/")
        and len(digits) == TOKEN_DIGITS
        and all(each in HEX_DIGITS for each in digits)
    )


def entries(draft: Draft, leases: Leases, name: bytes) -> list[Version]:
    """The queue: the holder's entry, then those that wait. One whose lease is over counts no more,
    although its key may still be there.
    """
    return [
        each
        for each in draft.range(name + b"/", name + b"0")
        if is_entry_of(each.key, name) and (not each.lease or leases.is_alive(each.lease))
    ]


def check_fence(draft: Draft, leases: Leases, name: bytes, token: int) -> None:
    """The token is that of the present holder."""
    queue = entries(draft, leases, name)
    holder = queue[0].create_revision if queue else 0
    if not token or holder != token:
        raise Refusal("FENCED_OFF", holder_token=holder)
