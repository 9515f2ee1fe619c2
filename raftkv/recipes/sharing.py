"""What locks that several may hold at once have in common. Knows no rule of who may."""

from __future__ import annotations

import asyncio
from typing import Final

from raftkv.arguments import to_instance
from raftkv.client.client import Client
from raftkv.client.coordination.entry_watches import QueueEntry
from raftkv.client.coordination.lock import Lock
from raftkv.client.coordination.queue import Owners
from raftkv.client.requests import to_key
from raftkv.client.settings import ClientSettings


class SharedLock(Lock):
    """A lock that others may hold at the same time: a reader's, or a slot of a semaphore.

    Like `client.lock` in all but this: it is no fence. A fence lets the oldest holder through
    and nobody else, and here younger ones have the same right, so `fence=` refuses it. To have a
    transaction refused once this is lost, let it compare
    `when.create_revision(lock.key) == lock.token`.
    """

    shared: Final = True


class OwnersOfOne:
    """Lets no task have two places under one recipe, whatever the queues are called."""

    def __init__(self, owners: Owners, name: bytes) -> None:
        self._owners = owners
        self._name = name

    def add(self, name: bytes, owner: object) -> None:
        """Raises `LockReentered`."""
        self._owners.add(self._name, owner)

    def remove(self, name: bytes, owner: object) -> None:
        """It waits no more and holds nothing."""
        self._owners.remove(self._name, owner)


class SharedQueues:
    """The queues of one recipe, as its locks need them; who is admitted is for subclasses."""

    def __init__(self, client: Client, name: bytes) -> None:
        self.client = client
        self.queues = client.queues
        self.answer_s_max = self.queues.answer_s_max
        self.owners: Owners = OwnersOfOne(self.queues.owners, name)
        self.timeout_s = self.queues.timeout_s
        self.home = self.queues.home

    def leave(self, place: QueueEntry) -> asyncio.Future[bool]:
        """As `LockQueues.leave`."""
        return self.queues.leave(place)


def to_client(client: Client) -> Client:
    """A recipe's client. Raises `InvalidRequest` for anything else, also for a synchronous one."""
    return to_instance(client, Client, "client", "what raftkv.connect makes")


def recipe_name(name: str | bytes) -> bytes:
    """A recipe's name as keys begin with it. Raises `InvalidRequest` if it is empty."""
    return to_key(name, ClientSettings(), "name")
