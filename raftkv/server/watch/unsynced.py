"""Unsynced watchers: groups that read history in bounded steps until they are synced."""

from __future__ import annotations

import asyncio
from typing import Final

from raftkv.errors import RevisionCompacted
from raftkv.kv.changes import changes_since
from raftkv.server.node_port import NodePort
from raftkv.server.watch.groups import Watcher, WatcherGroup, WatcherGroups, encode_bodies

REVISIONS_PER_STEP: Final = 1_000
BYTES_PER_STEP: Final = 1 << 20
CHANGES_PER_TURN: Final = 100
"""About a millisecond of reading; then the event loop runs other tasks."""

JOIN_REVISIONS_MAX: Final = 10_000
"""A watcher joins a group if it starts at most so many revisions after the group's position."""


class UnsyncedGroup:
    """Watchers that read the same history: each has received every change before `position`."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.watchers: dict[Watcher, int] = {}  # and the revision from which each receives changes
        self._groups = WatcherGroups()
        self._reading = False

    def accepts(self, start: int) -> bool:
        """Whether a watcher that receives changes from revision `start` on may be added."""
        return not self._reading and self.position <= start <= self.position + JOIN_REVISIONS_MAX

    def add(self, watcher: Watcher, start: int) -> None:
        """Add a watcher that receives changes from revision `start` on."""
        self.watchers[watcher] = start
        self._groups.add(watcher, start)

    def remove(self, watcher: Watcher) -> None:
        """Remove the watcher from the group."""
        self._groups.remove(watcher, self.watchers.pop(watcher))

    def drop_compacted(self, compacted_revision: int) -> list[Watcher]:
        """Remove and return the watchers whose history is compacted; the others read on."""
        if self.position >= compacted_revision:
            return []
        lost = [each for each, start in self.watchers.items() if start < compacted_revision]
        for watcher in lost:
            self.remove(watcher)
        self.position = compacted_revision
        return lost

    async def step(self, node: NodePort) -> None:
        """Read and send some more changes, in whole revisions.

        Yields to the event loop in between. If history was compacted or a snapshot replaced the
        store meanwhile, the step sends nothing and leaves `position` where it was.
        """
        self._reading = True
        try:
            selected = await self._read(node)
        finally:
            self._reading = False
        for group, events in selected.items():
            group.send(encode_bodies(events, self.position - 1))

    async def _read(self, node: NodePort) -> dict[WatcherGroup, list[bytes]]:
        machine, start = node.machine, self.position
        end = min(machine.revision + 1, start + REVISIONS_PER_STEP)
        selected: dict[WatcherGroup, list[bytes]] = {}
        size_bytes = at = 0
        for count, change in enumerate(changes_since(machine.view, start, end), 1):
            if change.revision != at:
                if size_bytes >= BYTES_PER_STEP:
                    end = change.revision
                    break
                at = change.revision
            size_bytes += self._groups.select(change, selected)
            if not count % CHANGES_PER_TURN:
                await asyncio.sleep(0)
                if node.machine is not machine or machine.compacted_revision > start:
                    return {}
        self.position = end
        return selected


def compacted_error(watcher: Watcher, compacted_revision: int) -> RevisionCompacted:
    """The error that ends a watch whose history is compacted."""
    return RevisionCompacted(
        f"the changes before revision {compacted_revision} are compacted, and watch"
        f" {watcher.watch_id} has not received all of them; read the keys at"
        f" {compacted_revision} or later and watch from the next revision on",
        compacted_revision=compacted_revision,
    )
