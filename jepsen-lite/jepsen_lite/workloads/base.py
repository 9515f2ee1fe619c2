"""What every workload is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, runtime_checkable

from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from raftkv.client.client import Client
from raftkv.errors import RaftkvError


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a worker is to do next. `value` can be written as JSON."""

    function: str
    key: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Session:
    """Whom a worker asks, and who it is. `seat` is its number in the run, whatever happens to it.

    `tell` records at once something that it learns beside its operations.
    """

    client: Client
    seat: int
    tell: Callable[[Invocation], None]


class NotDone(RaftkvError):
    """The workload itself has decided, for a reason of its own, that nothing is to happen."""

    reason = "NOT_DONE"


@runtime_checkable
class HoldingWorkload(Protocol):
    """A workload whose workers hold something over several operations."""

    def give_back(self, seat: int) -> Invocation | None:
        """What ends the hold of the worker in this seat; None if it holds nothing."""


@runtime_checkable
class HistoryReadingWorkload(Protocol):
    """A workload whose unknown outcomes can be told from what the store remembers in the end."""

    def histories(self) -> Sequence[Invocation]:
        """What reads all that was ever written, once nothing else will be done."""


class Workload(Protocol):
    """One kind of load on the store."""

    name: str
    reads: frozenset[str]
    """Functions that change nothing: when they fail, they have failed, whatever was lost."""

    def next(self, rng: Random, seat: int) -> Invocation:
        """What the worker in this seat does next."""

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        """Do it; what it returns goes into the history. Raises `RaftkvError`."""

    def final(self) -> Sequence[Invocation]:
        """What is read once everything is healed."""

    def check(self, history: History) -> list[Finding]:
        """What the checkers of this workload say of a history, whoever made it."""
