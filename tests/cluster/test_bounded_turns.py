"""No request blocks a node's event loop for long, or costs a leader its leadership."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import raftkv
from raftkv.rpc.v1 import kv_pb2
from tests.cluster import watched_node
from tests.cluster.adversary import STEPS, Step, Walk
from tests.cluster.cluster import Cluster
from tests.cluster.machine_speed import MachineSpeed, measured_speed
from tests.cluster.watched_node import Turn, read_turns

# The log is so small that a follower which was down for a while needs a snapshot. Elections come
# late, as other tests take the cores, too: what a turn takes is judged by itself.
SETTINGS = (
    "--set log_compaction_bytes=1048576 --set log_retained_bytes=0"
    " --set election_ticks_min=30 --set election_ticks_max=50"
)
TURN_MS_MAX = 20.0
"""Of CPU time on a machine like the one of `machine_speed`; a slower one is allowed more."""

LONE_TURN_MS_MAX = 60.0
"""One turn of a step may seem longer than it is: a hypervisor that takes the core away for a
moment makes the CPU time grow. What a request causes is there each time it is made."""

OTHERS_WAIT_S_MAX = 10.0
BYSTANDER_S = 0.02
STEP_S_MAX = 60.0
WALK_S_MAX = 150.0


KINDS = [
    field.name
    for message, group in ((kv_pb2.Command, "command"), (kv_pb2.Operation, "operation"))
    for field in message.DESCRIPTOR.oneofs_by_name[group].fields
]


@dataclass
class Verdict:
    """How a step went."""

    name: str
    took_s: float = 0.0
    answers: str = ""
    longest: dict[int, Turn] = field(default_factory=dict)
    others_waited_s: float = 0.0
    slowness: float = 1.0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        turns = ", ".join(
            f"{turn.own_ms:.0f} (of {turn.wall_ms:.0f}) on node {node_id} in {turn.longest}"
            for node_id, turn in self.longest.items()
        )
        first = (
            f"{self.name}: {self.took_s:.1f} s, {self.answers}; another client waited"
            f" {self.others_waited_s:.1f} s; machine slower by {self.slowness:.1f};"
            f" longest turns in ms: {turns}"
        )
        return "\n      FAULT: ".join([first, *self.faults])


class Bystander:
    """Another client that puts and gets all the time, and how long it has waited at most."""

    def __init__(self, client: raftkv.Client) -> None:
        self._client = client
        self._longest_s = 0.0
        self._began = 0.0

    async def run(self) -> None:
        while True:
            self._began = time.monotonic()
            # What it fails with does not matter: it goes on waiting.
            while True:
                with contextlib.suppress(raftkv.RaftkvError):
                    await self._client.put("bystander", "here")
                    await self._client.get("bystander")
                    break
            self._longest_s = max(self._longest_s, time.monotonic() - self._began)
            await asyncio.sleep(BYSTANDER_S)

    def longest_s(self) -> float:
        """Since it was last asked for, with the present wait."""
        now = time.monotonic()
        longest_s = max(self._longest_s, now - self._began)
        self._longest_s, self._began = 0.0, now
        return longest_s


class Watcher:
    """Judges each step by what it did to the nodes."""

    def __init__(
        self, walk: Walk, turns: dict[int, Path], bystander: Bystander, speed: MachineSpeed
    ) -> None:
        self._walk = walk
        self._speed = speed
        self._bystander = bystander
        self._cluster = walk.cluster
        self._turns = turns
        self._term = 0

    async def judge(self, name: str, step: Step) -> Verdict:
        walk, verdict = self._walk, Verdict(name)
        self._term = self._term or (await walk.status(walk.leader)).header.term
        began, now = time.monotonic(), time.time()
        walk.answers.clear()
        walk.restarted.clear()
        walk.faults = verdict.faults
        try:
            async with asyncio.timeout(STEP_S_MAX):
                await step(walk)
                await walk.applied()
        except Exception as error:  # noqa: BLE001 - whatever the step met is its verdict
            verdict.faults.append(f"the step ended with {error!r}"[:300])
        verdict.took_s = time.monotonic() - began
        verdict.answers = ", ".join(f"{count} {what}" for what, count in walk.answers.items())
        verdict.others_waited_s = self._bystander.longest_s()
        if verdict.others_waited_s > OTHERS_WAIT_S_MAX:
            verdict.faults.append(f"another client waited {verdict.others_waited_s:.1f} s")
        self._look_at_turns(verdict, now)
        await self._look_at_leadership(verdict)
        return verdict

    def _look_at_turns(self, verdict: Verdict, since: float) -> None:
        verdict.slowness = slowness = self._speed.slowness(since)
        for node_id, path in self._turns.items():
            of_step = [turn for turn in read_turns(path) if turn.ended_at >= since]
            if of_step and node_id not in self._walk.restarted:
                longest = max(of_step, key=lambda turn: turn.own_ms)
                verdict.longest[node_id] = longest
                long = sum(turn.own_ms > TURN_MS_MAX * slowness for turn in of_step)
                if long > 1 or longest.own_ms > LONE_TURN_MS_MAX * slowness:
                    verdict.faults.append(f"node {node_id}: {long} long turns, {longest}")

    async def _look_at_leadership(self, verdict: Verdict) -> None:
        gone = [node_id for node_id, node in self._cluster.nodes.items() if not node.running]
        assert not gone, f"{verdict}: nodes {gone} have ended"
        self._walk.leader = await self._cluster.leader()
        term = (await self._walk.status(self._walk.leader)).header.term
        if term != self._term:
            verdict.faults.append(f"leadership was lost: term {self._term} became {term}")
            self._term = term


async def walk_over(cluster: Cluster, turns: dict[int, Path], speed: MachineSpeed) -> list[Verdict]:
    verdicts: list[Verdict] = []
    until = time.monotonic() + WALK_S_MAX
    async with (
        Walk(cluster, await cluster.leader()) as walk,
        cluster.client() as client,
        asyncio.TaskGroup() as others,
    ):
        bystander = Bystander(client)
        beside = others.create_task(bystander.run())
        watcher = Watcher(walk, turns, bystander, speed)
        for name, step in STEPS.items():
            verdicts.append(await watcher.judge(name, step))
            print(verdicts[-1], flush=True)
            if time.monotonic() > until:
                break
        beside.cancel()
    left_out = {*KINDS} - walk.asked
    assert len(verdicts) < len(STEPS) or not left_out, f"no step hands in {left_out}"
    return verdicts


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_no_command_and_no_read_blocks_the_event_loop_for_long(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 3, settings=SETTINGS)
    turns = {node_id: tmp_path / f"turns-{node_id}" for node_id in cluster.nodes}
    for node_id, node in cluster.nodes.items():
        node.program = (watched_node.__file__, str(turns[node_id]))
    with measured_speed(tmp_path / "speed") as speed:
        async with cluster:
            verdicts = await walk_over(cluster, turns, speed)
    faulty = [str(verdict) for verdict in verdicts if verdict.faults]
    assert not faulty, "\n".join(["", *faulty])
    assert len(verdicts) == len(STEPS), f"only {len(verdicts)} steps within {WALK_S_MAX} s"
