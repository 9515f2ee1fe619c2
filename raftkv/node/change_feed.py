"""The feed of applied changes, for watches and lock queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raftkv.kv.changes import Change
from raftkv.kv.machine import StateMachine


class ChangeSubscriber(Protocol):
    """Called in the node's round, right after the apply; must be quick and must not raise."""

    def changed(self, changes: Sequence[Change]) -> None:
        """These were applied, in order; no revision is split between two calls."""

    def jumped(self) -> None:
        """A snapshot replaced the state: the changes in between are in its history only."""


class ChangeFeed:
    """The subscribers of one node. The state machine reports changes only while there are any."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._subscribers: dict[ChangeSubscriber, None] = {}

    def follow(self, subscriber: ChangeSubscriber) -> None:
        """Pass every change from now on to the subscriber."""
        self._subscribers[subscriber] = None
        self._machine.set_change_listener(self._changed)

    def leave(self, subscriber: ChangeSubscriber) -> None:
        """End the subscription."""
        del self._subscribers[subscriber]
        if not self._subscribers:
            self._machine.set_change_listener(None)

    def replace(self, machine: StateMachine) -> None:
        """A snapshot has been installed."""
        self._machine = machine
        if self._subscribers:
            machine.set_change_listener(self._changed)
        for subscriber in list(self._subscribers):
            subscriber.jumped()

    def _changed(self, changes: Sequence[Change]) -> None:
        for subscriber in list(self._subscribers):
            subscriber.changed(changes)
