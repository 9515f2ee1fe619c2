"""The feed of applied changes of keys and of rights, for watches and lock queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raftkv.kv.changes import Change, ChangeSubscriber
from raftkv.kv.machine import StateMachine


class RightsSubscriber(Protocol):
    """Called right after a change of users, roles or tokens was applied, before `changed` is called
    with the keys that changed in the same write; must be quick and must not raise.
    """

    def rights_changed(self) -> None: ...


class ChangeFeed:
    """The subscribers of one node. The state machine reports changes only while there are any."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._subscribers: dict[ChangeSubscriber, None] = {}
        self._rights_subscribers: dict[RightsSubscriber, None] = {}
        machine.set_rights_listener(self._rights_changed)

    def follow_rights(self, subscriber: RightsSubscriber) -> None:
        """Report every change of rights from now on to the subscriber."""
        self._rights_subscribers[subscriber] = None

    def leave_rights(self, subscriber: RightsSubscriber) -> None:
        """End the subscription to changes of rights."""
        del self._rights_subscribers[subscriber]

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
        machine.set_rights_listener(self._rights_changed)
        if self._subscribers:
            machine.set_change_listener(self)
        self._rights_changed()
        self.jumped()

    def _rights_changed(self) -> None:
        for subscriber in list(self._rights_subscribers):
            subscriber.rights_changed()

    def changed(self, changes: Sequence[Change]) -> None:
        """See `ChangeSubscriber.changed`."""
        for subscriber in list(self._subscribers):
            subscriber.changed(changes)

    def jumped(self) -> None:
        """See `ChangeSubscriber.jumped`."""
        for subscriber in list(self._subscribers):
            subscriber.jumped()
