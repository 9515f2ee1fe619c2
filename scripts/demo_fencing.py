"""The demonstration of fencing: why a lock alone does not protect what is outside the store.

Alice takes a lock and reads a file, to add a line and write it back. Then her process is stopped
(SIGSTOP) until her lease has ended. Bob takes the lock over and adds his lines. Alice is woken
(SIGCONT) and, knowing nothing of all that, writes what she had in mind. Once without fencing, and
Bob's lines are lost; once with a FencingGuard in front of the file, which refuses her old token.
Exits with 1 if either ends otherwise.
"""

from __future__ import annotations

import asyncio
import difflib
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, nullcontext
from pathlib import Path
from time import monotonic

from demo import DemoFailed, Processes, say

import raftkv
from jepsen_lite.ports import free_ports
from raftkv.cli.local_cluster import local_cluster

TTL_S = 1.5
WAIT_S_MAX = 20.0
BLOB = "ledger.txt"
STARTED_S = monotonic()


def tell(text: str) -> None:
    say(f"  {monotonic() - STARTED_S:5.1f} s  {text}")


# ---- one who writes, in a process of its own -------------------------------------------


def writer(name: str, endpoints: str, directory: Path, fenced: bool) -> int:
    """Take the lock, read the file, wait for a line on stdin, write the file, let go."""
    guard = raftkv.FencingGuard(directory / "fencing")
    blob = directory / BLOB
    with raftkv.connect_sync(endpoints) as client:
        lock = client.lock("ledger", ttl=TTL_S, value=name).acquire()
        token = lock.token
        text = blob.read_text()
        print(f"holds {token}", flush=True)
        sys.stdin.readline()
        try:
            with guard.admitted(BLOB, token) if fenced else nullcontext():
                blob.write_text(f"{text}{name} was here with token {token}\n")
            print("wrote", flush=True)
        except raftkv.FencedOff as error:
            print(f"refused {error.facts['highest_token']}", flush=True)
        lock.release()
    return 0


class Person:
    """A writer's process, and what it says."""

    def __init__(self, name: str, endpoints: str, directory: Path, fenced: bool) -> None:
        self.name = name
        self.token = 0
        command = [sys.executable, __file__, name, endpoints, str(directory), str(int(fenced))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    async def hold(self) -> None:
        """Wait until it holds the lock and has read the file."""
        word, token = await self._said()
        if word != "holds":
            raise DemoFailed(f"{self.name} said {word!r} instead of taking the lock")
        self.token = token

    async def write(self) -> tuple[str, int]:
        """Let it write; "wrote", or "refused" and the token that is in its way."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return await self._said()

    def pause(self) -> None:
        """SIGSTOP: as a long garbage collection, or a machine that is moved."""
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def _said(self) -> tuple[str, int]:
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S_MAX):
            line = await asyncio.to_thread(self._process.stdout.readline)
        word, _, number = line.strip().partition(" ")
        return word, int(number or 0)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


# ---- the story -------------------------------------------------------------------------


def new_blob(directory: Path) -> Path:
    """A file for both to write."""
    directory.mkdir()
    blob = directory / BLOB
    blob.write_text("opened\n")
    return blob


async def play(endpoints: str, directory: Path, fenced: bool) -> tuple[bool, Person, Person]:
    """Whether the file holds what Bob wrote at the end, and who took part."""
    blob = new_blob(directory)
    with ExitStack() as stack:
        alice = Person("alice", endpoints, directory, fenced)
        stack.callback(alice.end)
        await alice.hold()
        tell(f"alice holds the lock with token {alice.token} and has read {BLOB}")
        alice.pause()
        tell(f"alice's process is stopped (SIGSTOP); her lease ends in {TTL_S} s at the latest")
        bob = Person("bob", endpoints, directory, fenced)
        stack.callback(bob.end)
        await bob.hold()
        tell(f"the lease has ended: bob holds the lock with token {bob.token}")
        word, _ = await bob.write()
        if word != "wrote":
            raise DemoFailed(f"bob said {word!r} instead of writing")
        written = blob.read_text()
        tell(f"bob has written with token {bob.token}")
        alice.wake()
        tell("alice wakes up (SIGCONT) and writes what she had in mind before")
        word, number = await alice.write()
        if word == "refused":
            tell(f"REFUSED: the guard has seen token {number}, alice's is {alice.token}")
        else:
            tell(f"alice has written with the old token {alice.token}, and nothing told her")
    now = blob.read_text()
    lines = difflib.unified_diff(
        written.splitlines(), now.splitlines(), "after bob's write", "at the end", lineterm=""
    )
    for line in lines:
        say(f"             {line}")
    return now == written, alice, bob


async def reachable(endpoints: str, processes: Processes) -> None:
    deadline = monotonic() + WAIT_S_MAX
    while True:
        processes.check_alive()
        try:
            async with raftkv.connect(endpoints, timeout=1.0) as client:
                await client.get("ready?")
            return
        except raftkv.Unavailable:
            if monotonic() > deadline:
                raise DemoFailed("the cluster does not answer") from None
            await asyncio.sleep(0.1)


async def run(directory: Path, processes: Processes, endpoints: str) -> int:
    """Both acts; the exit code."""
    for node_id in (1, 2, 3):
        processes.start(node_id)
    await reachable(endpoints, processes)
    tell("three nodes are up")
    say("1. Without fencing")
    whole, _, _ = await play(endpoints, directory / "unfenced", fenced=False)
    if whole:
        say("fencing demo: FAILED, the file was not corrupted without fencing")
        return 1
    tell("the file is CORRUPTED: what bob wrote is lost")
    say("2. The same with a FencingGuard in front of the file, that remembers tokens on disk")
    whole, alice, bob = await play(endpoints, directory / "fenced", fenced=True)
    if not whole:
        say("fencing demo: FAILED, the guard let an old token write")
        return 1
    remembered = raftkv.FencingGuard(directory / "fenced" / "fencing").highest(BLOB)
    tell(f"the file is whole; on disk the guard remembers token {remembered}")
    say(
        f"fencing demo: OK, token {alice.token} refused after token {bob.token};"
        " without fencing the file was corrupted"
    )
    return 0


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(tempfile.mkdtemp(prefix="raftkv-fencing-"))
    ports = free_ports(6)
    cluster = local_cluster(ports[:3], ports[3:], directory, "demo")
    processes = Processes(cluster, directory)
    endpoints = ",".join(node.client_address for node in cluster)
    code = 1
    try:
        code = asyncio.run(run(directory, processes, endpoints))
    except (DemoFailed, TimeoutError, raftkv.RaftkvError) as error:
        say(f"fencing demo: FAILED, {error or 'nothing was said in time'}")
    except KeyboardInterrupt:
        say("fencing demo: interrupted")
        code = 130
    finally:
        processes.stop()
        if code == 0:
            shutil.rmtree(directory)
        else:
            say(f"The files and logs are in {directory}")
    return code


if __name__ == "__main__":
    if len(sys.argv) == 5:
        who, where, folder, guarded = sys.argv[1:]
        sys.exit(writer(who, where, Path(folder), guarded == "1"))
    sys.exit(main())
