"""Watches that read history until they are live. Knows the store, not the stream's life."""

from __future__ import annotations

import asyncio
from typing import Final

from raftkv.errors import RevisionCompacted
from raftkv.kv.changes import changes_since
from raftkv.server.node_port import NodePort
from raftkv.server.watch.groups import Watcher, WatcherGroup, WatcherGroups, bodies_of

REVISIONS_PER_STEP: Final = 1_000
BYTES_PER_STEP: Final = 1 << 20
CHANGES_PER_BREATH: Final = 100
"""About a millisecond's reading; then others have their turn."""

JOIN_REVISIONS: Final = 10_000
"""Watches that are no farther apart than this read together."""


class UnsyncedGroup:
    """Watches that read the same history: all before `position` has been sent to them."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.watches: dict[Watcher, int] = {}  # and the revision from which each wants to hear
        self._audience = WatcherGroups()
        self._reading = False

    def takes(self, start: int) -> bool:
        """Whether a watch that wants to hear from `start` on may read along."""
        return not self._reading and self.position <= start <= self.position + JOIN_REVISIONS

    def join(self, watch: Watcher, start: int) -> None:
        """The watch reads along."""
        self.watches[watch] = start
        self._audience.join(watch, start)

    def leave(self, watch: Watcher) -> None:
        """It does not any more."""
        self._audience.leave(watch, self.watches.pop(watch))

    def drop_compacted(self, compacted_revision: int) -> list[Watcher]:
        """Take out the watches whose history is gone; the others read on."""
        if self.position >= compacted_revision:
            return []
        lost = [watch for watch, start in self.watches.items() if start < compacted_revision]
        for watch in lost:
            self.leave(watch)
        self.position = compacted_revision
        return lost

    async def step(self, node: NodePort) -> None:
        """Read and tell some more, in whole revisions.

        Pauses in between; if history was compacted or replaced in a pause, nothing was told.
        """
        self._reading = True
        try:
            selected = await self._read(node)
        finally:
            self._reading = False
        for group, events in selected.items():
            group.tell(bodies_of(events, self.position - 1))

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
            size_bytes += self._audience.select(change, selected)
            if not count % CHANGES_PER_BREATH:
                await asyncio.sleep(0)
                if node.machine is not machine or machine.compacted_revision > start:
                    return {}
        self.position = end
        return selected


def compacted(watch: Watcher, compacted_revision: int) -> RevisionCompacted:
    """What ends a watch whose history is gone."""
    return RevisionCompacted(
        f"the changes before revision {compacted_revision} are compacted, and watch"
        f" {watch.watch_id} has not heard all of them; read the keys at"
        f" {compacted_revision} or later and watch from the next revision on",
        compacted_revision=compacted_revision,
    )
