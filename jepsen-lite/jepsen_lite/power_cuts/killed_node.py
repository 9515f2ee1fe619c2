"""A process in which a node's stores are opened, written and killed by SIGKILL.

The files of an open RocksDB can't be copied as they are at one moment: its threads write tables and
remove files meanwhile, and a copy may lack a table that it names. So the process really dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from random import Random
from typing import Self

from jepsen_lite.power_cuts.stored_node import LogWrapper, open_node
from raftkv.raft.entry import Entry, EntryKind
from raftkv.raft.raft import Raft

_ENDED = "ended "


def next_entry(raft: Raft) -> Entry:
    """The entry that the killed node appends."""
    return Entry(raft.current_term, raft.log.last_index + 1, EntryKind.NOOP)


class KilledNodes:
    """Kills nodes, each in a process of its own. Those are forks of one that has no threads."""

    def __enter__(self) -> Self:
        module = "jepsen_lite.power_cuts.killed_node"
        self._forking = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._forking.communicate()

    def append_and_kill(self, path: Path) -> str:
        """Open the node in `path` and kill it once it has acknowledged the append of `next_entry`.

        Returns the problem that came before; empty if there was none.
        """
        requests, answers = self._forking.stdin, self._forking.stdout
        if requests is None or answers is None:
            raise TypeError("the process has pipes")
        requests.write(f"{path}\n")
        requests.flush()
        output = ""
        for line in answers:
            if line.startswith(_ENDED):
                killed = int(line.removeprefix(_ENDED)) == -signal.SIGKILL
                return "" if killed and not output else output or line
            output += line
        raise RuntimeError(f"the process that forks has ended: {self._forking.wait()}")


async def _append(path: Path) -> None:
    node = await open_node(path, Random(0), LogWrapper())
    await node.log.append(None, [next_entry(node.recovered.raft)])
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Kill the node in each path of the input. Outputs what failed, and how its process ended."""
    os.umask(0o077)  # as `raftkv serve`
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(_append(Path(line.removesuffix("\n"))))
            except BaseException:  # noqa: BLE001 - nothing may return to the loop of the parent
                print(traceback.format_exc(), flush=True)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        print(f"{_ENDED}{os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
