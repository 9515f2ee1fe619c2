"""What a peer's message can't say if all nodes kept what they promised. Knows no reaction to it."""

from __future__ import annotations


class ProtocolBreach(Exception):
    """`sender` and this node can't both be right: a disk was lost or copied, or somebody lies.

    The core has not acted on the message. Not an `InvariantViolation`, which is a fault of this
    program: what to make of a breach depends on who the sender is.
    """

    def __init__(self, sender: int, what: str, **facts: object) -> None:
        details = ", ".join(f"{name} {value}" for name, value in facts.items())
        super().__init__(f"{what} ({details})" if details else what)
        self.sender = sender
        self.what = what
        self.facts = facts
