"""A key-value store in one process, to be tested: JSON lines over TCP, and a log on disk.

    python tiny_store.py PORT DIRECTORY [--forgetful]

`--forgetful` is a bug that real stores have shipped: a write is acknowledged before it has left
the process, so that a crash loses it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path


class TinyStore:
    """Keys with their values and versions; every write is in the log before its answer."""

    def __init__(self, log: Path, forgetful: bool) -> None:
        self._held: dict[str, tuple[str, int]] = {}
        self._writes = 0
        self._forgetful = forgetful
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():
            for line in log.read_text().splitlines():
                self._apply(*json.loads(line))
        self._log = log.open("a")

    def _apply(self, key: str, value: str) -> None:
        self._writes += 1
        self._held[key] = (value, self._writes)

    def answer(
        self, function: str, key: str, value: str = "", expected: str | None = None
    ) -> object:
        """[whether it was done, the value now, its version]."""
        held, version = self._held.get(key, (None, 0))
        if function == "get" or (function == "cas" and held != expected):
            return [function == "get", held, version]
        self._log.write(json.dumps([key, value]) + "\n")
        if not self._forgetful:
            self._log.flush()
            os.fsync(self._log.fileno())
        self._apply(key, value)
        return [True, *self._held[key]]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(json.dumps(self.answer(*json.loads(line))).encode() + b"\n")
        writer.close()


async def main(port: str, directory: str, *flags: str) -> None:
    store = TinyStore(Path(directory, "log"), "--forgetful" in flags)
    server = await asyncio.start_server(store.serve, "127.0.0.1", int(port))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
