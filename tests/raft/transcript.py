"""Runs a scenario in text and writes down what happens, so that a reader can follow it.

A scenario is a text file: `#` begins a comment, `>` a command, every other line is the output
expected of the command above it. The commands are the methods of `Scenario`.

After a change that is meant to be:  python -m tests.raft.transcript --rewrite
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from raftkv.raft.messages import Message
from tests.raft.cluster import Cluster, members
from tests.raft.describe import describe, table

SCENARIOS = Path(__file__).parent / "scenarios"


def ids(word: str) -> list[int]:
    """Node ids, separated by commas; "-" for none."""
    return [] if word == "-" else [int(part) for part in word.split(",")]


class Scenario:
    """One method per command; what it prints is the transcript."""

    def __init__(self) -> None:
        self.output: list[str] = []
        self._cluster: Cluster | None = None

    def run(self, command: str) -> list[str]:
        """The lines that a command makes."""
        self.output.clear()
        name, *words = command.split()
        method: Callable[..., None] = getattr(self, f"do_{name.replace('-', '_')}")
        method(*words)
        return list(self.output)

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None, "a scenario begins with `cluster`"
        return self._cluster

    def do_cluster(self, voters: str, learners: str = "-") -> None:
        self._cluster = Cluster(ids(voters), ids(learners))
        self._cluster.trace = self.output.append

    def do_log(self, node: str, terms: str, current_term: str) -> None:
        """Give a node a log from an earlier life: the terms of its entries."""
        self.cluster.write_log(int(node), ids(terms), current_term=int(current_term))

    def do_node(self, node: str) -> None:
        """Start a new node with an empty disk."""
        self.cluster.add_node(int(node))

    def do_tick(self, node: str, times: str = "1") -> None:
        self.cluster.tick(int(node), int(times))

    def do_campaign(self, node: str) -> None:
        """Let a node's election timeout pass."""
        self.cluster.campaign(int(node))

    def do_leader(self, node: str) -> None:
        """Elect a node, without a word about how."""
        self.cluster.elect(int(node))
        self.output[:] = [f"{node} leads in term {self.cluster[int(node)].current_term}"]

    def do_forget_leader(self, nodes: str) -> None:
        """Let as much time pass as makes these nodes free to vote."""
        self.cluster.forget_leader(*ids(nodes))

    def do_settle(self, *held: str) -> None:
        """Let everything happen but the delivery of messages whose line contains these words."""
        text = " ".join(held)
        self.cluster.settle(hold=lambda message: bool(text) and text in describe(message))

    def do_drop(self, *words: str) -> None:
        self.cluster.drop(self._matching(words))

    def do_propose(self, node: str, *commands: str) -> None:
        index = self.cluster.propose(int(node), *[command.encode() for command in commands])
        self.output.append("refused" if index is None else f"at index {index}")

    def do_read(self, node: str) -> None:
        self.output.append(f"read {self.cluster.read(int(node))}")

    def do_membership(self, leader: str, voters: str, learners: str = "-") -> None:
        target = members(ids(voters), ids(learners))
        self.cluster[int(leader)].propose_membership(target, force=True)
        self.cluster.observe(int(leader))

    def do_transfer(self, leader: str, to: str) -> None:
        self.cluster[int(leader)].transfer_leadership(int(to))

    def do_compact(self, node: str, index: str) -> None:
        self.cluster.nodes[int(node)].compact(int(index))

    def do_isolate(self, nodes: str) -> None:
        self.cluster.isolate(*ids(nodes))

    def do_heal(self) -> None:
        self.cluster.heal()

    def do_crash(self, nodes: str) -> None:
        self.cluster.crash(*ids(nodes))

    def do_restart(self, nodes: str) -> None:
        self.cluster.restart(*ids(nodes))

    def do_show(self) -> None:
        self.output += table(self.cluster.nodes.values())

    @staticmethod
    def _matching(words: tuple[str, ...]) -> Callable[[Message], bool]:
        return lambda message: " ".join(words) in describe(message)


def transcribe(text: str) -> str:
    """The scenario with the output that its commands have now."""
    scenario = Scenario()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("> "):
            lines += [line, *scenario.run(line[2:])]
        elif not line or line.startswith("#"):
            lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rewrite", action="store_true", required=True)
    parser.parse_args()
    for path in sorted(SCENARIOS.glob("*.txt")):
        path.write_text(transcribe(path.read_text()))


if __name__ == "__main__":
    main()
