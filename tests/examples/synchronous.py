"""The client of code without an event loop."""

from __future__ import annotations

import sys
from typing import assert_type

import raftkv
from raftkv.recipes.sync import Counter


def main(endpoints: str) -> None:
    with raftkv.connect_sync(endpoints, timeout=10) as client:
        assert_type(client, raftkv.SyncClient)
        assert_type(client.put("greeting", "hello"), raftkv.PutResult)
        greeting = client.get("greeting")
        assert_type(greeting, raftkv.KeyValue | None)
        assert greeting is not None
        assert greeting.value == b"hello"
        for kv in client.scan(prefix="greet"):
            assert_type(kv, raftkv.KeyValue)
        with client.lock("nightly") as lock:
            assert_type(lock, raftkv.SyncLock)
            client.put("greeting", "good night", fence=lock)
        with client.election("scheduler").campaign("host-7") as leadership:
            assert_type(leadership, raftkv.SyncLeadership)
        with client.watch("greeting") as changes:
            assert_type(changes, raftkv.SyncWatch)
            client.put("greeting", "good morning")
            for event in changes:
                assert_type(event, raftkv.WatchEvent)
                assert event.value == b"good morning"
                break
        assert_type(Counter(client, "visits").add(1), int)


if __name__ == "__main__":
    main(sys.argv[1])
