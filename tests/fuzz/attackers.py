"""The process that attacks: some attacks at a time, drawn one after the other from one seed.

Attack `n` of a seed does the same wherever it is run. How it interleaves with others, and what the
network makes of it, does not repeat.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

import grpc

from tests.fuzz import calls, frames

AT_A_TIME = 12
ATTACK_S_MAX = 10.0
# Attackers must not take from the nodes the cores that they are to show their use of.
NICE = 10
RECENT = 30
FAULTS_MAX = 50
CALLS = "calls of any method"
MANY_CALLS = "many calls at once"
HELLOS = "hellos of nobody"
INTRODUCED = "a stranger that is let in"
ENDS = (OSError, TimeoutError, EOFError, grpc.aio.AioRpcError, asyncio.IncompleteReadError)
"""How an attack ends that the node has ended."""


@dataclass(frozen=True)
class Target:
    """The two ports of a node."""

    client: str
    peer: str


@dataclass
class Account:
    """What the attackers did, as they leave it in a file."""

    done: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    recent: list[str] = field(default_factory=list)


Kind = tuple[str, Callable[[Random, str], Awaitable[str | None]], bool]
"""Name, attack, and whether it is for the peer port alone."""


def kinds(targets: Sequence[Target]) -> list[Kind]:
    stranger = calls.Stranger({target.peer: target.client for target in targets})
    of_frames: list[Kind] = [(name, _of_frames(name), False) for name in frames.ATTACKS]
    # Half of the attacks are messages, half frames.
    of_messages: list[Kind] = [
        *[(CALLS, calls.call_of_client_port, False)] * 6,
        *[(MANY_CALLS, calls.calls_at_once, False)] * 4,
        *[(HELLOS, stranger.unfounded_hello, True)] * 2,
        *[(INTRODUCED, stranger.introduced, True)] * 2,
    ]
    return [*of_frames, *of_messages]


def _of_frames(name: str) -> Callable[[Random, str], Awaitable[str | None]]:
    async def run(rng: Random, address: str) -> str | None:
        await frames.ATTACKS[name](rng, address)
        return None

    return run


class Attackers:
    """Run until the process is ended; counts in `account` what was done."""

    def __init__(self, seed: int, targets: Sequence[Target], account: Path) -> None:
        self._seed = seed
        self._targets = targets
        self._path = account
        self._kinds = kinds(targets)
        self._account = Account()
        self._counts: Counter[str] = Counter()
        self._next = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._attack_on() for _ in range(AT_A_TIME)), self._tell())

    async def _attack_on(self) -> None:
        while True:
            number, self._next = self._next, self._next + 1
            await self._attack(number)

    async def _attack(self, number: int) -> None:
        rng = Random(f"{self._seed}/{number}")
        name, attack, of_peers = rng.choice(self._kinds)
        target = rng.choice(self._targets)
        to_peer = of_peers or (name in frames.ATTACKS and rng.random() < 0.3)
        address = target.peer if to_peer else target.client
        self._account.recent = [*self._account.recent, f"{number}: {name} of {address}"][-RECENT:]
        fault = None
        try:
            async with asyncio.timeout(ATTACK_S_MAX):
                fault = await attack(rng, address)
        except ENDS:
            pass
        except asyncio.CancelledError:
            # What gRPC raises, too, where the node has cancelled a call.
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
        except Exception:  # noqa: BLE001 - a fault of the attack is a finding, too
            fault = traceback.format_exc(limit=-3)
        if fault and len(self._account.faults) < FAULTS_MAX:
            self._account.faults.append(f"{number}: {name} of {address}: {fault}")
        self._counts[name] += 1
        self._account.done += 1

    async def _tell(self) -> None:
        while True:
            self._account.by_kind = dict(self._counts)
            partial = self._path.with_suffix(".partial")
            partial.write_text(json.dumps(asdict(self._account)))
            partial.rename(self._path)
            await asyncio.sleep(0.2)


def _main(seed: int, targets: Sequence[Target], account: Path) -> None:
    os.nice(NICE)
    asyncio.run(Attackers(seed, targets, account).run())


def start(seed: int, targets: Sequence[Target], account: Path) -> BaseProcess:
    """The attackers as a process of their own, which ends with this one or when it is killed."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_main, args=(seed, list(targets), account), daemon=True)
    process.start()
    return process


def read_account(path: Path) -> Account:
    return Account(**json.loads(path.read_text())) if path.exists() else Account()
