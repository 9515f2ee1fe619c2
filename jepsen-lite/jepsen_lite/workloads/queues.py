"""A queue that workers fill and sweep in pages: each element is removed once, and none is lost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import queues
from jepsen_lite.clients.protocol import KeyValue
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

PREFIX = "queue/"
PAGE_KEYS = 3


class QueueWorkload:
    """Each element is a key of its own; a sweep deletes the first few, a read goes in pages."""

    name = "queue"
    reads = frozenset({"read"})

    def __init__(self) -> None:
        self._elements = itertools.count(1)

    def next(self, rng: Random, worker: int) -> Invocation:
        draw = rng.random()
        if draw < 0.15:
            return Invocation("read", PREFIX)
        if draw < 0.35:
            return Invocation("sweep", PREFIX, rng.randint(1, 5))
        return Invocation("add", PREFIX, next(self._elements))

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client = session.client
        if invocation.function == "add":
            await client.put(f"{PREFIX}{invocation.value:06}", timeout_s=timeout_s)
            return None
        if invocation.function == "sweep":
            page = await client.delete_first(PREFIX, invocation.value, timeout_s=timeout_s)
            return {"gone": [_element(kv) for kv in page.kvs], "more": page.more}
        scan = client.scan_prefix(PREFIX, page_keys=PAGE_KEYS, timeout_s=timeout_s)
        return [_element(kv) async for kv in scan]

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", PREFIX)]

    def check(self, history: History) -> list[Finding]:
        return [queues.check(list(history.operations(self.name)))]


def _element(kv: KeyValue) -> int:
    return int(kv.key.removeprefix(PREFIX))
