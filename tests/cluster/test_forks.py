"""Forks and event loops on real processes and gRPC: no process dies, hangs or prints a
traceback.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

IDLE_CHILDREN = """
import collections, os, sys, raftkv

ends = collections.Counter()
with raftkv.connect_sync(sys.argv[1]) as client:
    for i in range(300):
        child = os.fork()
        if not child:
            os._exit(0)
        ends[os.waitpid(child, 0)[1]] += 1
        client.put("k", str(i))
assert ends == {0: 300}, ends
"""

# A child leaves the blocks of a lock and of its client, as every program does that ends in one.
CHILD_LEAVES_BLOCKS = """
import asyncio, os, sys, raftkv

async def main() -> None:
    async with raftkv.connect(sys.argv[1]) as client, client.lock("n", ttl=60.0) as lock:
        for way in ("exit", "return"):
            child = os.fork()
            if not child:
                if way == "exit":
                    sys.exit(3)
                return
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code == (3 if way == "exit" else 0), (way, code)
            await client.put("k", way, fence=lock, timeout=20.0)

asyncio.run(main())
"""

# What a process had open when it forked decides whether its child can have a client.
NEW_CLIENTS = """
import asyncio, os, sys, raftkv

async def use() -> None:
    async with raftkv.connect(sys.argv[1], timeout=3.0) as client:
        await client.put("k", "v")

def child_says() -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            asyncio.run(use())
            said = "works"
        except raftkv.RaftkvError as error:
            said = type(error).__name__
        os.write(writing, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    return os.fdopen(reading).read()

assert child_says() == "works", "raftkv was only imported"
asyncio.run(use())
assert child_says() == "works", "the client was closed"
client = raftkv.connect_sync(sys.argv[1])
assert child_says() == "WrongProcess", "a client is open"
client.close()
assert child_says() == "works", "it was closed as well"
"""

LOOPS = """
import asyncio, sys, threading, raftkv

async def use(name: str) -> None:
    async with raftkv.connect(sys.argv[1]) as client:
        await asyncio.gather(*(client.put(f"{name}/{i}", "v") for i in range(200)))
        waiting = asyncio.create_task(client.lock("n").acquire())
        await client.get(name)
        waiting.cancel()
        async with client.lock(name), client.watch(prefix=name):
            pass

def run_loops(name: str) -> None:
    for _ in range(3):
        asyncio.run(use(name))

threads = [threading.Thread(target=run_loops, args=(f"t{i}",)) for i in range(4)]
with raftkv.connect_sync(sys.argv[1]) as client, client.lock("n"):
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        client.put("sync", "v")
"""


DOCS = Path(__file__).parents[2] / "docs"


def examples(page: str) -> list[str]:
    """The programs of a page that need no package but raftkv."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return [block for block in blocks if "celery" not in block and "post_fork" not in block]


@pytest.mark.parametrize("page", ["fork.md", "threads-and-loops.md"])
async def test_the_examples_of_the_docs_run_as_they_stand(page: str, tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        assert examples(page)
        for example in examples(page):
            (tmp_path / "example.py").write_text(example)
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, str(tmp_path / "example.py")],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                env={**os.environ, "RAFTKV_ENDPOINTS": cluster.endpoints},
            )
            assert (done.returncode, done.stderr) == (0, ""), example


@pytest.mark.parametrize(
    "program",
    [IDLE_CHILDREN, CHILD_LEAVES_BLOCKS, NEW_CLIENTS, LOOPS],
    ids=["idle-children", "child-leaves-blocks", "new-clients", "loops"],
)
async def test_a_forked_process_exits_with_0_and_prints_nothing(
    program: str, tmp_path: Path
) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        command = [sys.executable, "-c", program, cluster.endpoints]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
