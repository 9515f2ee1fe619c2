"""Random writes, compactions, failures and consumers: what is delivered equals the model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from unittest.mock import patch

import async_solipsism
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.client.watch.watch import Watch
from raftkv.errors import RevisionCompacted
from raftkv.kv.changes import Change
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.server.watch import unsynced
from tests.client.watch_cluster import EventTuple, WatchCluster, delivered
from tests.kv.harness import EVERYTHING, compact, delete, put, transaction

# So that writes, compactions and snapshots fall between the steps and breaths of a reader.
SMALL_STEPS = {"REVISIONS_PER_STEP": 3, "CHANGES_PER_TURN": 1, "JOIN_REVISIONS_MAX": 2}
KEYS = [b"a", b"b", b"ba", b"c"]
RANGES = [(b"a", None), (b"b", b"c"), (b"b", b"\x00"), (b"a", b"ba")]


@dataclass
class Consumer:
    """One watch, what it has handed out, and what it wants."""

    watch: Watch
    key: bytes
    end: bytes | None
    start: int
    prev_kv: bool
    events: list[EventTuple] = field(default_factory=list)
    compacted: bool = False

    def wants(self, change: Change) -> bool:
        if self.end is None:
            return change.key == self.key
        return self.key <= change.key and (self.end == EVERYTHING or change.key < self.end)

    async def take(self, batches: int) -> None:
        try:
            async with asyncio.timeout(30):
                for _ in range(batches):
                    self.events += [delivered(event) for event in await self.watch.next_batch()]
        except TimeoutError:
            pass
        except RevisionCompacted:
            self.compacted = True

    def check(self, watch_cluster: WatchCluster) -> None:
        expected = watch_cluster.changes(lambda c: self.wants(c) and c.revision >= self.start)
        if self.compacted:
            expected = expected[: len(self.events)]
        assert self.events == expected


@st.composite
def steps(draw: st.DrawFn) -> tuple[object, ...]:
    kind = draw(
        st.sampled_from(
            (
                *("put", "put", "put", "delete", "txn", "compact", "sleep", "watch", "take"),
                *("crash", "restart", "behind", "ahead", "snapshot", "mute", "cut off"),
                *("slow", "fast"),
            )
        )
    )
    return kind, draw(st.integers(0, 1_000)), draw(st.integers(0, 3))


@settings(max_examples=300)
@given(st.lists(steps(), min_size=5, max_size=60), st.integers(500, 5_000))
def test_every_watch_delivers_the_changes_of_its_keys_in_order_and_once(
    script: list[tuple[str, int, int]], buffer_bytes: int
) -> None:
    loop = async_solipsism.EventLoop()
    try:
        with patch.multiple(unsynced, **SMALL_STEPS):
            loop.run_until_complete(run(script, buffer_bytes))
    finally:
        loop.close()


async def run(script: list[tuple[str, int, int]], buffer_bytes: int) -> None:
    watch_cluster = WatchCluster(watch_buffer_bytes_max=1 << 10)
    client = await watch_cluster.connect(watch_buffer_bytes_max=buffer_bytes)
    consumers: list[Consumer] = []
    for kind, number, which in script:
        await act(watch_cluster, client, consumers, kind, number, which)
    for node in watch_cluster.nodes.values():
        if not node.up:
            node.restart()
        node.mute = node.cut_off = node.behind = False
        for stream in node.streams:
            stream.may_write.set()
        node.advance()
    await asyncio.gather(*(consumer.take(1_000) for consumer in consumers))
    await client.close()
    await asyncio.sleep(1)
    for consumer in consumers:
        consumer.check(watch_cluster)
    assert not any(node.broken for node in watch_cluster.nodes.values())


async def act(
    watch_cluster: WatchCluster,
    client: object,
    consumers: list[Consumer],
    kind: str,
    number: int,
    which: int,
) -> None:
    serving = [node for node in watch_cluster.nodes.values() if node.streams]
    node = serving[0] if which == 0 and serving else list(watch_cluster.nodes.values())[which % 3]
    key = KEYS[which]
    if kind == "put":
        watch_cluster.write(put(key, b"%d" % number))
    elif kind == "delete":
        watch_cluster.write(delete(EVERYTHING, EVERYTHING) if which == 3 else delete(key))
    elif kind == "txn":
        watch_cluster.write(
            pb.Command(transaction=transaction(success=[put(each) for each in KEYS]))
        )
    elif kind == "compact":
        watch_cluster.write(compact(max(1, watch_cluster.revision - number % 5)))
    elif kind == "sleep":
        await asyncio.sleep(number / 500)
    elif kind == "watch":
        await watch(watch_cluster, client, consumers, number, which)
    elif kind == "take" and consumers:
        consumer = consumers[number % len(consumers)]
        if not consumer.compacted and consumer.watch._state.queue:
            await consumer.take(1)
    elif kind == "crash":
        node.crash()
    elif kind == "restart" and not node.up:
        node.restart()
    elif kind in ("behind", "ahead"):
        node.behind = kind == "behind"
        node.advance()
    elif kind == "snapshot":
        node.behind = True
        for count in range(number % 4):
            watch_cluster.write(put(key, b"%d" % count))
        node.install_snapshot()
    elif kind == "mute":
        node.mute = number % 2 == 0
    elif kind == "cut off":
        node.cut_off = number % 2 == 0
        node.advance()
    elif kind in ("slow", "fast"):
        for stream in node.streams:
            (stream.may_write.clear if kind == "slow" else stream.may_write.set)()


async def watch(
    watch_cluster: WatchCluster, client: object, consumers: list[Consumer], number: int, which: int
) -> None:
    start = max(1, watch_cluster.revision - number % 20 + 3)
    key, end = RANGES[which]
    watch = client.watch(key, end, from_revision=start, prev_kv=number % 2 == 0)  # type: ignore[attr-defined]
    consumers.append(Consumer(watch, key, end, start, number % 2 == 0))
