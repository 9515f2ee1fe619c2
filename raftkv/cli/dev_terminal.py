"""The terminal of `raftkv dev`: starts the nodes, prints their output, and stops them."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from raftkv.cli.client_command import DEFAULT_ENDPOINTS
from raftkv.cli.event_loop import ENDING, ignored
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.local_cluster import LocalNode, node_environment
from raftkv.cli.streams import reader_gone

if TYPE_CHECKING:
    from raftkv.cli.dev_security import DevSecurity
    from raftkv.cli.guarded.reaper import Reaper
    from raftkv.client.client import Client
    from raftkv.client.model.status import NodeStatus
    from raftkv.errors import RaftkvError

STOP = (signal.SIGTERM, signal.SIGINT)  # either stops a node gracefully
STOP_S_MAX = 10.0
CONNECT_S_MAX = 1.0
REMOVED = b"removed_from_cluster"  # logged by a node that must not be started again
# Starts the node once the reaper has its process group: it waits for a line on standard input.
GATED = ("sh", "-c", 'read -r _ && exec "$@" </dev/null', "sh")
COLOURS = (36, 33, 35, 32, 34, 31, 96)  # ANSI


class DevTerminal:
    """The nodes' processes and their output."""

    def __init__(
        self,
        cluster: Sequence[LocalNode],
        log_level: str,
        reaper: Reaper,
        security: DevSecurity | None = None,
    ) -> None:
        self._cluster = cluster
        self._security = security
        self._reaper = reaper
        self._log_level = log_level
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._started_s: dict[int, float] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> ExitCode:
        """Run until a signal arrives or the last node has ended; ERROR if all nodes have ended."""
        loop = asyncio.get_running_loop()
        # The cluster ends with its terminal, except under nohup.
        for number in ENDING:
            if not ignored(number):
                loop.add_signal_handler(number, self._stop_or_kill)
        ends = []
        for node in self._cluster:
            self._started_s[node.node_id] = loop.time()
            self._processes[node.node_id] = process = await self._start(node)
            ends.append(asyncio.create_task(self._follow(node, process)))
        printing_usage = asyncio.create_task(self._print_usage())
        stopping = asyncio.create_task(self._stopping.wait())
        all_ended = asyncio.ensure_future(asyncio.gather(*ends))
        await asyncio.wait((stopping, all_ended), return_when=asyncio.FIRST_COMPLETED)
        printing_usage.cancel()
        stop_requested = self._stopping.is_set()
        if stop_requested:
            self._print_own("stopping ...")
            await self._stop()
        stopping.cancel()
        codes = await all_ended
        if stop_requested:
            self._print_own("stopped")
            return ExitCode.OK
        self._print_own("no node is left")
        return ExitCode(max(codes)) if max(codes) in list(ExitCode) else ExitCode.ERROR

    async def _start(self, node: LocalNode) -> asyncio.subprocess.Process:
        # A session of its own: Ctrl-C reaches this process alone, which then stops each node.
        process = await asyncio.create_subprocess_exec(
            *GATED,
            *node.command("--log-level", self._log_level),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=node_environment(),
            start_new_session=True,
        )
        self._reaper.watch(process.pid)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
        return process

    async def _follow(self, node: LocalNode, process: asyncio.subprocess.Process) -> int:
        assert process.stdout is not None
        removed = False
        while line := await process.stdout.readline():
            removed = removed or REMOVED in line
            self._print(node.node_id, line.decode(errors="replace").rstrip())
        code = await process.wait()
        self._reaper.forget(process.pid)
        if not self._stopping.is_set():
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            if removed:
                self._print(node.node_id, f"ended ({cause})")
            else:
                self._print(node.node_id, f"ended ({cause}); start it again with:")
                self._print(node.node_id, " ".join(["raftkv", *node.command()[3:]]))
        return code

    def _stop_or_kill(self) -> None:
        """The first signal stops the nodes gracefully, the second kills them."""
        if self._stopping.is_set():
            for process in self._running():
                process.kill()
        self._stopping.set()

    def _running(self) -> list[asyncio.subprocess.Process]:
        return [each for each in self._processes.values() if each.returncode is None]

    async def _stop(self) -> None:
        running = self._running()
        # The nodes have inherited the ignored signals.
        stop = next((each for each in STOP if not ignored(each)), signal.SIGKILL)
        for process in running:
            process.send_signal(stop)
        waits = [asyncio.create_task(process.wait()) for process in running]
        if waits:
            _, late = await asyncio.wait(waits, timeout=STOP_S_MAX)
            if late:
                self._print_own(f"{len(late)} did not stop within {STOP_S_MAX:.0f} s: killed")
        for process in self._running():
            process.kill()

    async def _print_usage(self) -> None:
        """Print how to use the cluster as soon as it has a leader."""
        from raftkv.errors import OutcomeUnknown, Unauthenticated, Unavailable

        endpoints = ",".join(node.client_address for node in self._cluster)
        leader = None
        while leader is None:
            try:
                async with await self._connect(endpoints) as client:
                    leader = own_leader((await client.status_all()).values(), self._up_ms())
            except (Unavailable, OutcomeUnknown):
                continue
            except Unauthenticated as error:
                self._print_own(f"can't log in, has the password been changed? ({error})")
                return
            await asyncio.sleep(0.1)
        pid = self._processes[leader.node_id].pid
        if self._security is not None:
            exports = self._security.usage(endpoints)
        elif endpoints != DEFAULT_ENDPOINTS:
            exports = [f"  export RAFTKV_ENDPOINTS={endpoints}"]
        else:
            exports = []
        for line in (
            f"The cluster is ready, node {leader.node_id} leads. In another terminal:",
            *exports,
            "  raftkv put hello world",
            "  raftkv get hello",
            "  raftkv status --watch",
            f"  kill -9 {pid}      # the leader: {after_its_death(leader)}",
            "Ctrl-C stops it.",
        ):
            self._print_own(line)

    async def _connect(self, endpoints: str) -> Client:
        from raftkv.client.client import connect

        if self._security is not None:
            return await self._security.connect(endpoints)
        return await connect(endpoints, timeout=CONNECT_S_MAX)

    def _up_ms(self) -> dict[int, float]:
        """The time since the start of each running node."""
        now_s = asyncio.get_running_loop().time()
        return {
            node_id: (now_s - self._started_s[node_id]) * 1000
            for node_id, process in self._processes.items()
            if process.returncode is None
        }

    def _print(self, node_id: int, line: str) -> None:
        prefix = f"node {node_id} |"
        if sys.stdout.isatty():
            prefix = f"\x1b[{COLOURS[node_id % len(COLOURS)]}m{prefix}\x1b[0m"
        self._write(f"{prefix} {line}")

    def _print_own(self, line: str) -> None:
        bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
        self._write(f"{bold}raftkv dev | {line}{plain}")

    def _write(self, line: str) -> None:
        print(line, flush=True)
        if reader_gone():  # stop the nodes as well
            self._stopping.set()


def own_leader(
    answers: Iterable[NodeStatus | RaftkvError], up_ms: Mapping[int, float]
) -> NodeStatus | None:
    """The leader, if it is one of our processes: its uptime is at most `up_ms`.

    A process that listened at this address before has a longer uptime.
    """
    from raftkv.client.model.status import NodeStatus, Role

    ours = (
        answer
        for answer in answers
        if isinstance(answer, NodeStatus)
        and answer.role is Role.LEADER
        and answer.uptime_ms <= up_ms.get(answer.node_id, -1)
    )
    return next(ours, None)


def after_its_death(leader: NodeStatus) -> str:
    """What happens to the cluster if its leader is killed."""
    voters = sum(not member.learner for member in leader.members)
    if voters == 1:
        return "nothing is lost, but no node is left until you start it again"
    if voters - 1 <= voters // 2:
        return "nothing is lost, but without a majority nothing is served until it is back"
    return "nothing is lost, another takes over"
