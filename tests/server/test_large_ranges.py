"""The client against the real store, with more keys than one command or read may touch."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fake_node import Door, put

import raftkv
from raftkv.client.client import Client
from raftkv.client.model.op import Sort
from raftkv.errors import TooManyKeys
from raftkv.kv import budget, leases
from raftkv.kv.limits import DELETED_KEYS_MAX
from raftkv.raft.entry import Entry, EntryKind, encode_version
from raftkv.versions import BOUNDED

KEYS = [b"k%06d" % i for i in range(2 * DELETED_KEYS_MAX + 500)]


@pytest.fixture
async def client(door: Door, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(budget, "ROWS_MAX", 2 * DELETED_KEYS_MAX)
    machine = door.node.machine
    version = Entry(
        door.node.term, machine.applied_index + 1, EntryKind.VERSION, encode_version(BOUNDED)
    )
    machine.apply([version])
    door.node.run(*(put(key.decode(), key[::-1]) for key in (*KEYS, b"other")))
    async with raftkv.connect(f"127.0.0.1:{door.port}") as made:
        yield made


async def test_a_range_of_more_rows_than_one_read_may_look_at(client: Client) -> None:
    everything = await client.range_prefix("k")
    assert [kv.key for kv in everything.kvs] == KEYS
    assert (everything.count, everything.more) == (len(KEYS), False)
    assert (await client.range_prefix("k", count_only=True)).count == len(KEYS)
    first = await client.range_prefix("k", limit=3)
    assert ([kv.key for kv in first.kvs], first.count, first.more) == (KEYS[:3], len(KEYS), True)
    last = await client.range_prefix("k", sort=Sort.MOD_REVISION, descending=True, limit=2)
    assert ([kv.key for kv in last.kvs], last.count) == (KEYS[:-3:-1], len(KEYS))


async def test_a_scan_shows_one_revision_while_the_range_is_deleted(client: Client) -> None:
    scan = client.scan_prefix("k", page_keys=3_000)
    found = [(await anext(scan)).key]
    await client.delete_prefix_in_pages("k").finish()
    found += [kv.key async for kv in scan]
    assert found == KEYS
    assert await client.scan("\0", "\0").count() == 1


async def test_a_deletion_of_any_size_goes_in_pages(client: Client) -> None:
    with pytest.raises(TooManyKeys, match="delete_prefix_in_pages") as refused:
        await client.delete_prefix("k")
    assert refused.value.facts["keys_max"] == str(DELETED_KEYS_MAX)
    assert await client.scan_prefix("k").count() == len(KEYS)
    deletion = client.delete_prefix_in_pages("k")
    pages = [page.deleted async for page in deletion]
    assert pages == [DELETED_KEYS_MAX, DELETED_KEYS_MAX, 500]
    assert deletion.last_revision - deletion.first_revision == 2
    assert await client.scan_prefix("k").count() == 0


async def test_a_transaction_deletes_a_part_and_says_that_there_is_more(client: Client) -> None:
    done = await client.txn(success=[raftkv.op.delete_range("k", "l", limit=3)])
    (deleted,) = done.responses
    assert isinstance(deleted, raftkv.DeleteResult)
    assert (deleted.deleted, deleted.more) == (3, True)


async def test_locks_of_one_client_stand_on_several_leases_once_one_is_full(
    client: Client, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_KEYS_MAX", 3)
    locks = [await client.lock(f"n{i}").acquire() for i in range(7)]
    members = [next(door.node.machine.lock_entries(lock.name)) for lock in locks]
    used = {(await client.get(member.key)).lease for member in members}  # type: ignore[union-attr]
    assert len(used) == 3
    for lock in locks:
        await lock.release()
