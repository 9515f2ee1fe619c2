"""`raftkv lock`, `elect` and `watch` as processes, against a real node."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import raftkv
from tests.cluster.cluster import Cluster

pytestmark = pytest.mark.cluster

NOT_ACQUIRED, LOST, COMMAND_FAILED = 9, 10, 11

TTL = "60"  # seconds, renewed every 20
# A second is promised; the rest is for processes that start and end on a busy machine.
NOTICED_S_MAX = 5.0


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One node for all tests of this file."""

    async def start() -> Cluster:
        return await Cluster(tmp_path_factory.mktemp("cli"), 1).__aenter__()

    cluster = asyncio.run(start())
    yield cluster.endpoints
    asyncio.run(cluster.__aexit__())


@pytest.fixture
def client(endpoint: str) -> Iterator[raftkv.SyncClient]:
    with raftkv.connect_sync(endpoint) as client:
        yield client


class Command:
    """A `raftkv` process."""

    def __init__(self, endpoint: str, arguments: tuple[str, ...]) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAFTKV_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "raftkv", "--endpoints", endpoint, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> tuple[int, str, str]:
        """(exit code, rest of the output, errors)"""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


Start = Callable[..., Command]


@pytest.fixture
def start(endpoint: str) -> Iterator[Start]:
    begun: list[Command] = []

    def start(*arguments: str) -> Command:
        begun.append(Command(endpoint, arguments))
        return begun[-1]

    yield start
    for command in begun:
        if command.process.poll() is None:
            command.process.kill()
        command.ended()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of this test's own."""
    return str(request.node.name)


def shell(script: str) -> tuple[str, ...]:
    return "--", "sh", "-c", script


def until(client: raftkv.SyncClient, name: str, waiters: int) -> raftkv.LockInfo:
    """The lock's state once it is held and has so many waiters, with the watch as the clock."""
    with client.watch(prefix=f"{name}/") as changes:
        while True:
            info = client.lock_info(name)
            if info.holder is not None and len(info.waiters) == waiters:
                return info
            next(iter(changes))


def test_the_command_finds_name_and_token_and_the_lock_is_free_afterwards(
    start: Start, client: raftkv.SyncClient, name: str
) -> None:
    before = client.put("any").revision
    command = start("lock", name, *shell('echo "$RAFTKV_LOCK_NAME $RAFTKV_LOCK_TOKEN"'))
    code, out, _ = command.ended()
    assert code == 0
    said_name, said_token = out.split()
    assert said_name == name
    assert int(said_token) > before
    assert client.lock_info(name).holder is None


def test_a_failing_command_has_an_exit_code_of_its_own(start: Start, name: str) -> None:
    code, _, err = start("lock", name, *shell("exit 3")).ended()
    assert code == COMMAND_FAILED
    assert "failed with 3" in err


def test_a_command_that_does_not_exist_is_an_error_and_frees_the_lock(
    start: Start, client: raftkv.SyncClient, name: str
) -> None:
    code, _, err = start("lock", name, "--", "/no/such/program").ended()
    assert code == 2
    assert "can't run" in err
    assert client.lock_info(name).holder is None


def test_a_lock_that_is_not_free_within_the_timeout_is_not_acquired(
    start: Start, client: raftkv.SyncClient, name: str
) -> None:
    with client.lock(name):
        code, out, err = start("lock", name, "--timeout", "0.5", *shell("echo ran")).ended()
    assert (code, out) == (NOT_ACQUIRED, "")
    assert "0.5" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_ends_the_waiting_and_leaves_the_queue(
    start: Start, client: raftkv.SyncClient, name: str, number: signal.Signals
) -> None:
    with client.lock(name):
        waiting = start("lock", name, *shell("echo ran"))
        until(client, name, waiters=1)
        waiting.send(number)
        code, out, _ = waiting.ended()
        assert (code, out) == (128 + number, "")
        assert client.lock_info(name).waiters == ()


def test_a_signal_is_passed_on_to_the_command_and_the_lock_kept_until_it_ends(
    start: Start, client: raftkv.SyncClient, name: str
) -> None:
    holding = start(
        "lock",
        name,
        *shell('trap "echo told; exit 0" USR1; echo ready; while :; do sleep 0.05; done'),
    )
    assert holding.line() == "ready"
    holding.send(signal.SIGUSR1)
    code, out, _ = holding.ended()
    assert (code, out) == (0, "told\n")
    assert client.lock_info(name).holder is None


def test_a_command_that_a_passed_signal_ends_gives_the_shells_code(start: Start, name: str) -> None:
    holding = start("lock", name, *shell("echo ready; while :; do sleep 0.05; done"))
    assert holding.line() == "ready"
    holding.send(signal.SIGTERM)
    assert holding.ended()[0] == 128 + signal.SIGTERM


def test_a_command_that_a_signal_of_its_own_ends_gives_the_shells_code(
    start: Start, name: str
) -> None:
    """As the one that Ctrl-C sends: a terminal gives it to the command alone."""
    code, _, err = start("lock", name, *shell("kill -INT $$")).ended()
    assert code == 128 + signal.SIGINT
    assert "failed" not in err


def take_away(client: raftkv.SyncClient, name: str) -> None:
    """An operator ends the holder's lease."""
    holder = client.lock_info(name).holder
    assert holder is not None
    client.lease_revoke(holder.lease)


def delete_key(client: raftkv.SyncClient, name: str) -> None:
    """An operator deletes the holder's key."""
    holder = client.lock_info(name).holder
    assert holder is not None
    assert client.delete(f"{name}/{holder.token:016x}").deleted


@pytest.mark.parametrize("remove", [take_away, delete_key])
def test_loss_asks_the_command_to_end_with_sigterm_long_before_the_next_renewal(
    start: Start, client: raftkv.SyncClient, remove: Callable[[raftkv.SyncClient, str], None]
) -> None:
    name = f"loss-by-{remove.__name__}"
    script = 'trap "echo termed; exit 0" TERM; echo ready; while :; do sleep 0.05; done'
    holding = start("lock", name, "--ttl", TTL, *shell(script))
    assert holding.line() == "ready"
    removed_at = time.monotonic()
    remove(client, name)
    code, out, err = holding.ended()
    assert time.monotonic() - removed_at < NOTICED_S_MAX
    assert (code, out) == (LOST, "termed\n")
    assert "is lost" in err


def test_a_leader_whose_key_is_deleted_ends_long_before_the_next_renewal(
    start: Start, client: raftkv.SyncClient, name: str
) -> None:
    leading = start("elect", name, "alice", "--ttl", TTL, "-o", "json")
    assert json.loads(leading.line())["name"] == name
    removed_at = time.monotonic()
    delete_key(client, name)
    code, _, err = leading.ended()
    assert time.monotonic() - removed_at < NOTICED_S_MAX
    assert code == LOST
    assert "its key was deleted or its lease was revoked by another client" in err


def test_loss_kills_a_command_that_does_not_end_within_the_grace(
    start: Start, client: raftkv.SyncClient, name: str
) -> None:
    script = 'trap "echo termed" TERM; echo ready; while :; do sleep 0.05; done'
    holding = start("lock", name, "--ttl", TTL, "--grace", "0.3", *shell(script))
    assert holding.line() == "ready"
    take_away(client, name)
    code, out, _ = holding.ended()
    assert (code, out) == (LOST, "termed\n")


def test_loss_may_kill_at_once_or_be_ignored(
    start: Start, client: raftkv.SyncClient, name: str, tmp_path: Path
) -> None:
    script = 'trap "echo termed" TERM; echo ready; while :; do sleep 0.05; done'
    killed = start("lock", name, "--ttl", TTL, "--on-loss", "kill", *shell(script))
    assert killed.line() == "ready"
    take_away(client, name)
    assert killed.ended()[:2] == (LOST, "")

    go_on = tmp_path / "go-on"
    script = (
        f'trap "echo termed" TERM; echo ready; until [ -e {go_on} ]; do sleep 0.05; done; echo done'
    )
    ignored = start("lock", name, "--ttl", TTL, "--on-loss", "ignore", *shell(script))
    assert ignored.line() == "ready"
    take_away(client, name)
    assert ignored.process.stderr is not None
    assert "is lost" in ignored.process.stderr.readline()
    go_on.touch()
    assert ignored.ended()[:2] == (LOST, "done\n")


def test_without_a_command_it_holds_until_ctrl_c(
    start: Start, client: raftkv.SyncClient, name: str
) -> None:
    holding = start("lock", name, "-o", "json")
    told = json.loads(holding.line())
    holder = client.lock_info(name).holder
    assert holder is not None
    assert told == {"name": name, "token": holder.token}
    holding.send(signal.SIGINT)
    assert holding.ended()[0] == 0
    assert client.lock_info(name).holder is None


def test_an_election_is_led_watched_and_resigned(start: Start, name: str) -> None:
    looking = start("elect", name)
    assert looking.line() == "nobody leads"
    leading = start("elect", name, "alice", "-o", "json")
    token = json.loads(leading.line())["token"]
    assert looking.line() == f"alice leads under token {token}"
    code, _, _ = start("elect", name, "bob", "--timeout", "0.5").ended()
    assert code == NOT_ACQUIRED
    leading.send(signal.SIGTERM)
    assert leading.ended()[0] == 0
    assert looking.line() == "nobody leads"
    again = start("elect", name, "carol")
    won = again.line()
    assert looking.line() == won.replace(f"leads {name} under", "leads under").partition(";")[0]
    assert won.startswith(f"carol leads {name} under token ")
    assert won.endswith("; Ctrl-C resigns")
    again.send(signal.SIGINT)
    assert again.ended()[0] == 0
    assert looking.line() == "nobody leads"
    looking.send(signal.SIGINT)
    assert looking.ended()[0] == 0


def test_a_watch_shows_each_change_and_exits_with_0(
    start: Start, client: raftkv.SyncClient, name: str
) -> None:
    first = client.put(f"{name}/a", "1").revision
    looking = start("watch", f"{name}/", "--prefix", "--prev", "--revision", str(first))
    assert looking.line() == f"put\t{first}\t{name}/a\t1"
    client.put(f"{name}/a", "2")
    assert looking.line() == f"put\t{first + 1}\t{name}/a\t2\twas 1"
    client.delete(f"{name}/a")
    assert looking.line() == f"delete\t{first + 2}\t{name}/a\twas 2"
    looking.send(signal.SIGINT)
    assert looking.ended()[0] == 0


def test_a_lease_is_kept_alive_until_it_is_lost(start: Start, client: raftkv.SyncClient) -> None:
    lease = client.lease_grant(15.0).lease  # a busy machine takes long to start the command
    keeping = start("lease", "keep-alive", str(lease), "-o", "json")
    assert json.loads(keeping.line()) == {"lease": lease, "ttl_s": 15.0}
    client.lease_revoke(lease)
    assert keeping.ended()[0] == LOST
