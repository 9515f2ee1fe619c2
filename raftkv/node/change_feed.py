"""Passes on what is applied to whoever follows it. Knows changes, not what is done with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raftkv.kv.changes import Change
from raftkv.kv.machine import StateMachine


class Follower(Protocol):
    """Called in the node's round, right after the apply; must be quick and must not raise."""

    def changed(self, changes: Sequence[Change]) -> None:
        """These were applied, in order; no revision is split between two calls."""

    def jumped(self) -> None:
        """A snapshot replaced the state: what changed in between is only in its history."""


class ChangeFeed:
    """The followers of one node. Costs nothing while there are none."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._followers: dict[Follower, None] = {}

    def follow(self, follower: Follower) -> None:
        """Tell the follower of every change from now on."""
        self._followers[follower] = None
        self._machine.set_change_listener(self._changed)

    def leave(self, follower: Follower) -> None:
        """Tell it no more."""
        del self._followers[follower]
        if not self._followers:
            self._machine.set_change_listener(None)

    def replace(self, machine: StateMachine) -> None:
        """A snapshot has been installed."""
        self._machine = machine
        if self._followers:
            machine.set_change_listener(self._changed)
        for follower in list(self._followers):
            follower.jumped()

    def _changed(self, changes: Sequence[Change]) -> None:
        for follower in list(self._followers):
            follower.changed(changes)
