"""Systems of other people: the examples run, and what is known to be wrong with them is found."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from jepsen_lite.clients.partial import PartialClient, PartialLocks
from jepsen_lite.clients.protocol import UNSUPPORTED, OperationError
from jepsen_lite.db.catalogue import DATABASES, RunPaths, database_kind
from jepsen_lite.db.processes import output_of
from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.history import Event, Kind
from jepsen_lite.judge import judge
from jepsen_lite.options import RunOptions
from jepsen_lite.recorder import Recorder
from jepsen_lite.store import RunDirectory, WrittenHistory
from jepsen_lite.verdicts import Finding, Validity
from jepsen_lite.workloads.base import Invocation
from jepsen_lite.workloads.locks import LockWorkload
from tests.jepsen_lite.checkers.histories import SECOND, assert_valid, texts

EXAMPLES = Path(__file__).parents[2] / "jepsen-lite" / "examples"
SOON_S = 10.0
with_redis = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed"),
    pytest.mark.skipif(find_spec("redis") is None, reason="the package redis is not installed"),
]


def test_a_system_is_found_by_its_name_or_by_its_import_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    assert database_kind("raftkv") is DATABASES["raftkv"]
    assert database_kind("own_store:STORE").sizes == (1,)
    for wrong, why in (
        ("rafkv", "no MODULE:ATTRIBUTE"),
        ("own_store:NONE", "can't be imported"),
        ("no_such_module:STORE", "can't be imported"),
        ("own_store:SERVER", "is no DatabaseKind"),
    ):
        with pytest.raises(LookupError, match=why):
            database_kind(wrong)


async def test_a_call_that_a_client_lacks_fails_and_says_so() -> None:
    client = PartialClient()
    with pytest.raises(OperationError, match="PartialClient does not have put") as refused:
        await client.put("a", timeout_s=1.0)
    assert (refused.value.reason, refused.value.kind) == (UNSUPPORTED, Kind.FAIL)
    with pytest.raises(OperationError, match="elections"):
        PartialLocks(lambda name, ttl_s: pytest.fail("no lock")).election("e", 1.0)


@pytest.mark.parametrize("example", ["own_store", "redis_lock"])
def test_an_example_uses_what_a_stranger_may_use(example: str) -> None:
    """The parts that the page for strangers names, and nothing of raftkv."""
    public = ("clients.", "db.base", "db.catalogue", "db.local", "history", "workloads.")
    for node in ast.walk(ast.parse((EXAMPLES / f"{example}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and "jepsen_lite" in node.module:
            assert node.module.removeprefix("jepsen_lite.").startswith(public)
        assert not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("raftkv"))


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize(("system", "code"), [("STORE", 0), ("FORGETFUL", 1)])
def test_the_template_runs_and_a_store_that_forgets_is_found(
    system: str, code: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "jepsen_lite", "run", "--system", f"own_store:{system}"]
    command += ["--workload", "register", "--nemesis", "kill", "--nodes", "1", "--seconds", "6"]
    command += ["--seed", "1", "--store", str(tmp_path)]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("Meanwhile: kill of node-1" in " ".join(done.stdout.split())) == bool(code)


class LockRun:
    """Two clients of Redis and their locks, written down as a run."""

    def __init__(self, path: Path) -> None:
        kind = database_kind("redis_lock:REDIS")
        options = RunOptions("redis_lock:REDIS", ("lock",), (), 1.0, 2, 2, 1.0, 1)
        self.system: Any = kind.make(options, RunPaths(path / "data", path / "logs"))
        self.directory = RunDirectory(path)
        self._began_ns = time.monotonic_ns()
        self._history = WrittenHistory(self.directory)
        self._recorder = Recorder(self._history, self.now_ns)
        self._workload = LockWorkload()
        self._clients: list[Any] = []
        self.system.on_event = self._note

    def now_ns(self) -> int:
        return time.monotonic_ns() - self._began_ns

    def _note(self, name: str, node: str, detail: str) -> None:
        now_ns = self.now_ns()
        record = FaultRecord(name, node, now_ns, now_ns, detail)
        self.directory.add_fault(record.to_json())

    async def acquire(self, worker: int, timeout_s: float = SOON_S) -> Kind:
        asked = Invocation("acquire", "lock/a")
        client = self._clients[worker]
        performed = self._recorder.perform(client, worker, self._workload, asked, timeout_s)
        return (await performed).kind

    async def carry_out(self, script: Callable[[LockRun], Awaitable[None]]) -> Finding:
        """The finding about the locks."""
        try:
            await self.system.start()
            self._clients = [await self.system.connect() for _ in range(2)]
            await script(self)
        finally:
            for client in self._clients:
                await client.close()
            await self.system.stop()
            self._history.close()
        more = {"workloads": ["lock"], "nemeses": [], "options": {"rate": 1.0}}
        self.directory.write_test(more)
        return next(each for each in judge(self.directory) if each.checker == "lock")


async def _replicated(run: LockRun) -> None:
    """Return when the replica has the lock's key."""
    port = run.system.direct_address("node-2").rpartition(":")[2]
    while await output_of("redis-cli", "-p", port, "EXISTS", "lock/a") != "1":  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def _fail_over_with_the_lock_held(run: LockRun, replicated: bool) -> None:
    if not replicated:
        await run.system.cut([("node-1", "node-2"), ("node-2", "node-1")])
    assert await run.acquire(0) is Kind.OK
    if replicated:
        await asyncio.wait_for(_replicated(run), SOON_S)
    assert await run.system.transfer_leader("node-2") == "node-2"
    async with asyncio.timeout(SOON_S):
        for _ in range(2):  # the first try reaches the former primary, which refuses
            with contextlib.suppress(OperationError):
                await run.acquire(1, timeout_s=0.1)


@pytest.mark.parametrize(
    "replicated", [pytest.param(False, marks=with_redis), pytest.param(True, marks=with_redis)]
)
def test_a_lock_of_redis_is_lost_in_a_failover_exactly_if_it_was_not_replicated(
    replicated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    run = LockRun(tmp_path)
    found = asyncio.run(run.carry_out(lambda run: _fail_over_with_the_lock_held(run, replicated)))
    if replicated:
        assert_valid(found)
        return
    assert found.validity is Validity.INVALID
    story = texts(found)
    assert "lock/a: process 1 got the lock at" in story
    assert "while process 0 held it since" in story
    assert "both got token 1" in story
    assert "Meanwhile: failover of node-2 at" in story
    assert "the replica node-2 replaced the primary node-1" in story


def test_a_problem_names_the_faults_between_its_events(tmp_path: Path) -> None:
    history = WrittenHistory(RunDirectory(tmp_path))
    for time_ns, (kind, value) in enumerate([("invoke", None), ("ok", ["v1", 1])], 5):
        history.append(Event(time_ns * SECOND, 1, Kind(kind), "register", "read", "a", value))
    history.close()
    run = RunDirectory(tmp_path)
    for name, began, ended in (
        ("kill", 1, 4),
        ("failover", 5, 5),
        ("delay", 2, None),
        ("cut", 7, 8),
    ):
        ended_ns = None if ended is None else ended * SECOND
        run.add_fault(FaultRecord(name, "node-1", began * SECOND, ended_ns, "why").to_json())
    run.write_test({"workloads": ["register"], "nemeses": [], "options": {"rate": 1.0}})
    steps: list[tuple[str, int, int]] = []
    found = judge(run, lambda *step: steps.append(step))
    (text,) = [each.problems[0].text for each in found if each.validity is Validity.INVALID]
    assert text.endswith(
        "Meanwhile: failover of node-1 at 5.000000 s (why),"
        " delay of node-1 from 2.000000 s on (why)."
    )
    assert steps == [("the history", 0, 3), ("register", 1, 3), ("the faults", 2, 3)]
