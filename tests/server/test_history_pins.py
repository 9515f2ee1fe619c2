"""What a node reports as needed: revisions of which clients read more soon."""

from __future__ import annotations

from fake_node import FakeServer, put

import raftkv


async def test_pages_and_reads_of_old_revisions_pin_what_they_read(server: FakeServer) -> None:
    server.node.run(*(put(f"k{each}") for each in range(9)))
    revision = server.node.machine.revision
    async with raftkv.connect(f"127.0.0.1:{server.port}") as client:
        assert len((await client.range(prefix="k", limit=3)).kvs) == 3
        await client.get("k1")
        assert server.node.pinned == []
        scan = client.scan(prefix="k", page_keys=4)
        await anext(scan)
        await client.put("other", "")
        assert len([kv async for kv in scan]) == 8
        assert server.node.pinned == [revision] * 3
        await client.get("k1", revision=revision - 2)
        assert server.node.pinned[-1] == revision - 2


async def test_a_watch_that_reads_history_pins_where_it_is(server: FakeServer) -> None:
    server.node.run(*(put("k") for _ in range(9)))
    async with (
        raftkv.connect(f"127.0.0.1:{server.port}") as client,
        client.watch("k", from_revision=4) as watch,
    ):
        assert (await anext(aiter(watch))).revision == 4
        assert server.node.pinned[0] == 4
        reads = len(server.node.pinned)
        await client.put("k", "")
        async for event in watch:
            if event.revision == server.node.machine.revision:
                break
        assert len(server.node.pinned) == reads, "a synced watch needs no history"
