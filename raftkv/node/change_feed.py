"""The feed of applied changes, for watches and lock queues."""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.kv.changes import Change, ChangeSubscriber
from raftkv.kv.machine import StateMachine


class ChangeFeed:
    """The subscribers of one node. The state machine reports changes only while there are any."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._subscribers: dict[ChangeSubscriber, None] = {}

    def follow(self, subscriber: ChangeSubscriber) -> None:
        """Pass every change after the present revision to the subscriber."""
        self._subscribers[subscriber] = None
        self._machine.set_change_listener(self)

    def leave(self, subscriber: ChangeSubscriber) -> None:
        """End the subscription."""
        del self._subscribers[subscriber]
        if not self._subscribers:
            self._machine.set_change_listener(None)

    def replace(self, machine: StateMachine) -> None:
        """A snapshot has been installed."""
        self._machine = machine
        if self._subscribers:
            machine.set_change_listener(self)
        self.jumped()

    def changed(self, changes: Sequence[Change]) -> None:
        """See `ChangeSubscriber.changed`."""
        for subscriber in list(self._subscribers):
            subscriber.changed(changes)

    def jumped(self) -> None:
        """See `ChangeSubscriber.jumped`."""
        for subscriber in list(self._subscribers):
            subscriber.jumped()
