"""The terminal of `raftkv dev`: starts the nodes' processes, repeats what they say, stops them."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.local_cluster import LocalNode, node_environment
from raftkv.cli.options import DEFAULT_ENDPOINTS

STOP_S_MAX = 10.0
COLOURS = (36, 33, 35, 32, 34, 31, 96)  # ANSI


class DevTerminal:
    """The nodes' processes and what they say."""

    def __init__(self, cluster: Sequence[LocalNode], log_level: str) -> None:
        self._cluster = cluster
        self._log_level = log_level
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> ExitCode:
        """Until a signal comes or the last node has ended; ERROR if none was left."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        ends = []
        for node in self._cluster:
            self._processes[node.node_id] = process = await self._start(node)
            ends.append(asyncio.create_task(self._follow(node, process)))
        greeting = asyncio.create_task(self._greet())
        stopping = asyncio.create_task(self._stopping.wait())
        all_ended = asyncio.ensure_future(asyncio.gather(*ends))
        await asyncio.wait((stopping, all_ended), return_when=asyncio.FIRST_COMPLETED)
        greeting.cancel()
        asked = self._stopping.is_set()
        if asked:
            self._say("stopping ...")
            await self._stop()
        stopping.cancel()
        codes = await all_ended
        if asked:
            self._say("stopped")
            return ExitCode.OK
        self._say("no node is left")
        return ExitCode(max(codes)) if max(codes) in list(ExitCode) else ExitCode.ERROR

    async def _start(self, node: LocalNode) -> asyncio.subprocess.Process:
        # A session of its own: Ctrl-C reaches this process alone, which then asks each to stop.
        return await asyncio.create_subprocess_exec(
            *node.command("--log-level", self._log_level),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=node_environment(),
            start_new_session=True,
        )

    async def _follow(self, node: LocalNode, process: asyncio.subprocess.Process) -> int:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            self._print(node.node_id, line.decode(errors="replace").rstrip())
        code = await process.wait()
        if not self._stopping.is_set():
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self._print(node.node_id, f"ended ({cause}); start it again with:")
            self._print(node.node_id, " ".join(["raftkv", *node.command()[3:]]))
        return code

    async def _stop(self) -> None:
        running = [each for each in self._processes.values() if each.returncode is None]
        for process in running:
            process.terminate()
        waits = [asyncio.create_task(process.wait()) for process in running]
        if waits:
            _, late = await asyncio.wait(waits, timeout=STOP_S_MAX)
            if late:
                self._say(f"{len(late)} did not stop within {STOP_S_MAX:.0f} s: killed")
        for process in running:
            if process.returncode is None:
                process.kill()

    async def _greet(self) -> None:
        """Say how to talk to the cluster as soon as it can be talked to."""
        from raftkv.client.client import connect
        from raftkv.client.status import NodeStatus
        from raftkv.errors import ConnectionFailed

        endpoints = ",".join(node.client_address for node in self._cluster)
        leader = 0
        while not leader:
            try:
                async with connect(endpoints, timeout=1.0) as client:
                    answers = (await client.status_all()).values()
            except ConnectionFailed:
                continue
            leaders = {each.leader_id for each in answers if isinstance(each, NodeStatus)}
            leader = max(leaders, default=0)
            await asyncio.sleep(0.1)
        pid = self._processes[leader].pid
        elsewhere = [] if endpoints == DEFAULT_ENDPOINTS else [endpoints]
        for line in (
            f"The cluster is ready, node {leader} leads. In another terminal:",
            *(f"  export RAFTKV_ENDPOINTS={each}" for each in elsewhere),
            "  raftkv put hello world",
            "  raftkv get hello",
            "  raftkv status --watch",
            f"  kill -9 {pid}      # the leader: nothing is lost, another takes over",
            "Ctrl-C stops it.",
        ):
            self._say(line)

    def _print(self, node_id: int, line: str) -> None:
        prefix = f"node {node_id} |"
        if sys.stdout.isatty():
            prefix = f"\x1b[{COLOURS[node_id % len(COLOURS)]}m{prefix}\x1b[0m"
        print(prefix, line, flush=True)

    def _say(self, line: str) -> None:
        bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
        print(f"{bold}raftkv dev | {line}{plain}", flush=True)
