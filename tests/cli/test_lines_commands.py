"""`raftkv export` and `raftkv import`: what goes out comes in again, and nothing else changes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from raftkv.client.model.results import SwapResult
from tests.cli.conftest import FakeClient, Raftkv

BINARY = b"\xff\x00"


def fill(client: FakeClient, **values: bytes) -> None:
    for key, value in values.items():
        asyncio.run(client.put(key.encode(), value))


def test_what_was_exported_is_imported_byte_for_byte(
    raftkv: Raftkv, client: FakeClient, tmp_path: Path
) -> None:
    fill(client, a=b"one", b=BINARY, c="zwölf\n".encode())
    asyncio.run(client.put(BINARY, b""))
    fill(client, leased=b"x")
    client.kvs[b"leased"] = replace(client.kvs[b"leased"], lease=9)
    exported = raftkv("export")
    assert "4 keys of revision 6, 1 keys of leases left out" in exported.err
    assert [json.loads(line).get("key_base64") for line in exported.text.splitlines()][-1] == "/wA="
    before = {key: kv.value for key, kv in client.kvs.items() if not kv.lease}
    client.kvs.clear()
    file = tmp_path / "lines"
    file.write_bytes(exported.out)
    assert raftkv("-o", "json", "import", str(file)).json["create"] == 4
    assert {key: kv.value for key, kv in client.kvs.items()} == before
    assert raftkv("-o", "json", "import", stdin=exported.out).json["unchanged"] == 4


def test_an_existing_key_is_replaced_only_as_the_option_says(
    raftkv: Raftkv, client: FakeClient
) -> None:
    fill(client, a=b"1", b=b"1")
    lines = raftkv("export").out.replace(b'"1"', b'"imported"')
    fill(client, b=b"2")  # after the export
    for existing, values, conflicts in (
        ("keep", (b"1", b"2"), 2),
        ("cas", (b"imported", b"2"), 1),
        ("replace", (b"imported", b"imported"), 0),
    ):
        ran = raftkv("-o", "json", "import", "--existing", existing, stdin=lines)
        assert (ran.code, ran.json["conflict"]) == (3 if conflicts else 0, conflicts)
        assert tuple(client.kvs[key].value for key in (b"a", b"b")) == values


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    raftkv: Raftkv, client: FakeClient
) -> None:
    fill(client, a=b"1", b=b"2")
    before = dict(client.kvs)
    lines = b'{"key": "a", "value": "1"}\n{"key": "b", "value": "x"}\n\n{"key": "c", "value": ""}\n'
    ran = raftkv("import", "--dry-run", "--existing", "replace", stdin=lines)
    assert ran.text == "1 create, 1 change, 1 unchanged, 0 conflict\n"
    assert ran.err == "change\tb\ncreate\tc\n"
    assert client.kvs == before


def test_what_another_client_writes_meanwhile_is_a_conflict(
    raftkv: Raftkv, client: FakeClient
) -> None:
    swap = client.compare_and_swap

    async def late(key: bytes, expected: bytes | int | None, new_value: bytes) -> SwapResult:
        await client.put(key, b"by another")
        return await swap(key, expected, new_value)

    client.compare_and_swap = late  # type: ignore[method-assign]
    ran = raftkv("-o", "json", "import", stdin=b'{"key": "a", "value": "1"}\n')
    assert (ran.code, ran.json["conflict"]) == (3, 1)
    assert client.kvs[b"a"].value == b"by another"


def test_a_line_that_is_none_is_named(raftkv: Raftkv, client: FakeClient) -> None:
    for text in (
        b"no json",
        b'"text"',
        b'{"key": "a"}',
        b'{"key": 1, "value": ""}',
        b'{"key_base64": "!", "value": ""}',
        b'{"key": "a", "value": "", "mod_revision": "1"}',
    ):
        ran = raftkv("import", stdin=b'{"key": "a", "value": "1"}\n' + text)
        assert ran.code == 2, ran
        assert "line 2 is no key and value" in ran.err
    assert raftkv("import", "/nowhere").code == 2
