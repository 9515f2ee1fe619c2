"""A network of namespaces on this machine: nodes on a bridge that drops packets by rules.

The switch is a bridge in a namespace of its own, and so are its rules: neither this machine's
firewall nor Docker's reaches in, nothing leads out, and all of it ends with its namespaces. Knows
`ip` and `nft`; needs root.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from jepsen_lite.db.base import DatabaseFailed
from jepsen_lite.db.network import CLIENTS, Pair
from jepsen_lite.db.processes import output_of, output_of_now

PROGRAMS = {"ip": "iproute2", "nft": "nftables"}
NAMESPACES = Path("/run/netns")
LOCKS = Path("/run")
SLOTS = 200
SWITCH = "switch"
HOST = 254
"""The last number in the address of the harness and its clients, which are in no namespace"""
BACK_DOOR = 100
"""What is added to a node's number for its second address, which no rule is about."""
NODES_MAX = 99

RULES = """
table bridge cuts {
  set pairs { type ipv4_addr . ipv4_addr; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip saddr . ip daddr @pairs counter drop
  }
}
"""


def missing() -> str:
    """What this machine lacks for it, with what to do; "" if nothing."""
    lacks = [
        f"{program} is not installed; apt-get install {package}"
        for program, package in PROGRAMS.items()
        if not shutil.which(program)
    ]
    if os.geteuid() != 0:
        lacks.append("only root can make network namespaces")
    return "; ".join(lacks)


class Namespaces:
    """At most one network per slot. A slot is taken until `destroy`, or until its process ends.

    Nodes are known by names of at most 15 characters, and by the order in which they are named.
    """

    def __init__(self) -> None:
        self._slot, self._lock = _taken_slot()
        self._numbers: dict[str, int] = {}
        self._cuts: Counter[Pair] = Counter()

    def address(self, name: str) -> str:
        """Of a node or of CLIENTS, for all that faults are to reach."""
        if name == CLIENTS:
            return self._address(HOST)
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        if number > NODES_MAX:
            raise DatabaseFailed(f"no more than {NODES_MAX} nodes can be in one network")
        return self._address(number)

    def direct_address(self, name: str) -> str:
        """The node's other address: what comes from the harness to there is never dropped."""
        self.address(name)
        return self._address(BACK_DOOR + self._numbers[name])

    def _address(self, number: int) -> str:
        # 198.18.0.0/15 is for tests of networks and used nowhere else (RFC 2544).
        return f"198.18.{self._slot}.{number}"

    def inside(self, name: str) -> list[str]:
        """What to put before a command that is to run as this node."""
        return ["ip", "netns", "exec", f"{_prefix(self._slot)}{name}"]

    # ---- made and ended: at once, so that no interruption can come between --------------

    def create(self) -> None:
        """The switch, with the harness at it. Clears away what killed runs have left."""
        _clear(self._slot)
        _clear_abandoned()
        switch, link = f"{_prefix(self._slot)}{SWITCH}", _host_link(self._slot)
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "name", SWITCH, "type", "bridge")
        _ip("-n", switch, "link", "set", "dev", SWITCH, "up")
        _ip(*f"link add name {link} type veth peer name host netns {switch}".split())
        _ip("-n", switch, "link", "set", "dev", "host", "master", SWITCH, "up")
        _ip("addr", "add", f"{self.address(CLIENTS)}/24", "dev", link)
        _ip("link", "set", "dev", link, "up")
        output_of_now(*self.inside(SWITCH), "nft", "-f", "-", stdin=RULES)

    def add(self, name: str) -> None:
        """A namespace for a node, at the switch."""
        node, switch = (f"{_prefix(self._slot)}{each}" for each in (name, SWITCH))
        _ip("netns", "add", node)
        _ip(*f"link add name {name} netns {switch} type veth peer name eth0 netns {node}".split())
        _ip("-n", switch, "link", "set", "dev", name, "master", SWITCH, "up")
        for address in (self.address(name), self.direct_address(name)):
            _ip("-n", node, "addr", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _ip("-n", node, "link", "set", "dev", link, "up")

    def destroy(self) -> None:
        """End all that is in it, as far as it came to be."""
        _clear(self._slot)
        self._lock.close()

    # ---- cut and mended -----------------------------------------------------------------

    async def cut(self, pairs: Iterable[Pair]) -> None:
        """What is sent this way is dropped from now on."""
        new = Counter(pairs)
        added = [pair for pair in new if not self._cuts[pair]]
        self._cuts += new
        await self._tell("add", added)

    async def mend(self, pairs: Iterable[Pair]) -> None:
        """Take back one cut of each; a way that two faults have cut stays cut for the other."""
        old = Counter(pairs)
        self._cuts -= old
        await self._tell("delete", [pair for pair in old if not self._cuts[pair]])

    async def _tell(self, what: str, pairs: Iterable[Pair]) -> None:
        ways = [f"{self.address(sender)} . {self.address(to)}" for sender, to in pairs]
        if ways:
            rule = f"{what} element bridge cuts pairs {{ {', '.join(ways)} }}"
            await output_of(*self.inside(SWITCH), "nft", rule)

    async def held(self) -> int:
        """How many packets have been dropped until now."""
        asked = ["nft", "-j", "list", "chain", "bridge", "cuts", "forward"]
        return sum(_packets(json.loads(await output_of(*self.inside(SWITCH), *asked))))


def _packets(listing: Any) -> Iterable[int]:
    for item in listing["nftables"]:
        for expression in item.get("rule", {}).get("expr", ()):
            if "counter" in expression:
                yield expression["counter"]["packets"]


def _ip(*arguments: str) -> None:
    output_of_now("ip", *arguments)


def _prefix(slot: int) -> str:
    return f"jepsen-lite-{slot}-"


def _host_link(slot: int) -> str:
    return f"jepsen-lite-{slot}"


def _locked(slot: int) -> IO[bytes] | None:
    """The slot's lock, which the kernel releases when its holder has ended; None if one lives."""
    file = (LOCKS / f"{_host_link(slot)}.lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _taken_slot() -> tuple[int, IO[bytes]]:
    for slot in range(SLOTS):
        if lock := _locked(slot):
            return slot, lock
    raise DatabaseFailed(f"all {SLOTS} networks for tests are in use")


def _clear_abandoned() -> None:
    """Networks whose process has ended without clearing them away."""
    found = (re.match(r"jepsen-lite-(\d+)-", path.name) for path in _namespaces())
    for slot in sorted({int(match[1]) for match in found if match}):
        if lock := _locked(slot):
            with lock:
                _clear(slot)


def _namespaces() -> list[Path]:
    return sorted(NAMESPACES.iterdir()) if NAMESPACES.exists() else []


def _clear(slot: int) -> None:
    for path in _namespaces():
        if path.name.startswith(_prefix(slot)):
            # Servers outlive a harness that was killed, and a namespace lives with its processes.
            for pid in output_of_now("ip", "netns", "pids", path.name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _ip("netns", "del", path.name)
    # It ends with its bridge as well, but at an unknown moment.
    with contextlib.suppress(DatabaseFailed):
        _ip("link", "del", "dev", _host_link(slot))
