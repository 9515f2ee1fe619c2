"""However a process with a synchronous client ends, what it held is free at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PROGRAM = """
import atexit, os, signal, sys, threading, time
import raftkv

def late():
    for attempt in (lambda: client.get("x"), lambda: raftkv.connect_sync(sys.argv[1])):
        began = time.monotonic()
        try:
            attempt()
        except raftkv.Unavailable as error:
            assert "interpreter is ending" in str(error) and time.monotonic() - began < 1.0
        else:
            print("a call after the end has worked")

atexit.register(late)  # before the first client is made, so it runs after that is closed
client = raftkv.connect_sync(sys.argv[1])
lock = client.lock("held", ttl=60.0).acquire()
watch = client.watch(prefix="x/")
watch.started()
lease = client.lease(60.0)
lease.__enter__()
observer = client.election("e").observe()
next(observer)
leadership = client.election("led", ttl=60.0).campaign("me")
"""

ENDINGS = {
    "the program's end": "",
    "sys.exit": "sys.exit(3)",
    "an exception": "raise SystemExit('wrong')",
    "Ctrl-C while it waits": """
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
other = raftkv.connect_sync(sys.argv[1])
try:
    other.lock("held").acquire()
except KeyboardInterrupt:
    sys.exit()
""",
    "a daemon thread that waits": """
def wait():
    try:
        raftkv.connect_sync(sys.argv[1]).lock("held").acquire()
    except raftkv.Unavailable:
        pass
threading.Thread(target=wait, daemon=True).start()
time.sleep(0.3)
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_the_locks_of_a_process_are_free_when_it_has_ended(
    tmp_path: Path, ending: str
) -> None:
    async with Cluster(tmp_path, 1) as cluster, cluster.client() as observer:
        await observer.put("session", "is open")
        before = set(await observer.leases())
        program = PROGRAM + ENDINGS[ending]
        began = time.monotonic()
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-W", "ignore::ResourceWarning", "-c", program, cluster.endpoints],
            capture_output=True,
            text=True,
            timeout=30.0,
            check=False,
        )
        assert time.monotonic() - began < 10.0
        assert "Traceback" not in ended.stderr
        assert ended.stdout == ""

        async def nothing_is_left() -> bool:
            return set(await observer.leases()) == before

        await eventually(nothing_is_left, "the process' leases are gone", timeout_s=2.0)
        assert await observer.lock("held").try_acquire()
