"""Watches of wide and narrow prefixes, of puts or deletions only, beside deletions of ranges."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from jepsen_lite.workloads.base import Invocation, Session
from jepsen_lite.workloads.watches import KINDS, WITNESS, WatchWorkload

PREFIX = "wide-watch/"
KEYS = 60
WANTED = (("", KINDS), ("1", KINDS), ("", ["put"]), ("", ["delete"]), ("2", ["delete"]))
"""What the watchers ask for, in turn: the rest of their prefix, and the kinds."""


class WideWatchWorkload(WatchWorkload):
    """Revisions change many keys at once, and each watcher asks for a part of the changes."""

    name = "wide-watch"
    prefix = PREFIX

    def next(self, rng: Random, worker: int) -> Invocation:
        if rng.random() < 0.25:
            name = f"watcher-{worker}"
            return Invocation("watch", name, self._wanted(name))
        first = rng.randrange(KEYS)
        if rng.random() < 0.3:
            return Invocation(
                "delete-range", PREFIX, [first, min(KEYS, first + rng.randint(1, 20))]
            )
        numbers = rng.sample(range(KEYS), rng.choice((1, 1, 3, 40)))
        return Invocation("put-many", PREFIX, [sorted(numbers), f"v{next(self._values)}"])

    def _wanted(self, name: str) -> dict[str, Any]:
        wanted = {**super()._wanted(name), "progress": True}
        if name != WITNESS:
            rest, kinds = WANTED[int(name.removeprefix("watcher-")) % len(WANTED)]
            wanted |= {"prefix": PREFIX + rest, "kinds": kinds}
        return wanted

    async def _change(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client = session.client
        first, second = invocation.value
        changes: Mapping[str, str | None]
        if invocation.function == "put-many":
            values = dict.fromkeys(map(_key, first), second)
            revision = await client.write_many(values, timeout_s=timeout_s)
            return self._noted(revision, values)
        done = await client.commands.delete_range(_key(first), _key(second), timeout_s=timeout_s)
        changes = {row[0]: None for row in done.rows}
        return self._noted(done.revision, changes)


def _key(number: int) -> str:
    return f"{PREFIX}{number:02}"
