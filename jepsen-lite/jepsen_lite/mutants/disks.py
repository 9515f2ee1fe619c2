"""Planted bugs in what a cluster makes of disks that are gone, old or copied, of states that are
wrong, of strangers, and of programs of another version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.kv.meta import Meta
from raftkv.kv.pace import Steps
from raftkv.kv.records import CHANGE_DELETE, CHANGE_PUT
from raftkv.kv.state_hash import StateHash
from raftkv.kv.validation import Checked
from raftkv.node import leader_maintenance, proposer
from raftkv.node.founder import Ask, Founder
from raftkv.node.peer_handler import NodePeerHandler
from raftkv.node.peer_register import PeerRegister
from raftkv.node.proposer import Proposer
from raftkv.node.removal import RemovalReports
from raftkv.node.state_comparison import NOTHING_FOUND, Judgement, StateComparison
from raftkv.peer import bounds
from raftkv.peer.handshake import Caller, HandshakeRefused, Refusal
from raftkv.peer.ports import Acknowledged, Forward, Founding
from raftkv.raft.entry import Membership
from raftkv.raft.messages import Message
from raftkv.storage.identity import Stage
from raftkv.storage.ports import MemberNote
from raftkv.versions import SUPPORTED


@mutant(
    "silence is taken for an empty disk",
    "emptied-disks",
    caught_by="log matching: entry 1",
    seeds=range(1, 21),
)
def silence_is_an_empty_disk() -> list[Patch]:
    """A founder with an empty disk begins with those that answer, as etcd's `new` does."""
    ask_all = Founder._ask_all

    async def ask(self: Founder, ask: Ask) -> dict[int, Founding]:
        answers = await ask_all(self, ask)
        if len(answers) + 1 > len(self.founders) // 2:
            self.waiting_for = {}
        return answers

    return [(Founder, "_ask_all", ask)]


@mutant(
    "an emptied disk takes its old part",
    "emptied-disks",
    caught_by="takes part",
    seeds=range(1, 21),
)
def an_emptied_disk_takes_its_old_part() -> list[Patch]:
    """A founder that finds a running cluster goes on as its member. No peer looks at disks, or
    notes starts and acknowledgements, which would give it away as well.
    """
    consider = Founder._consider_started

    def join(self: Founder, other: int, answer: Founding) -> None:
        if answer.incarnation and not self.identity.incarnation:
            self.identity = replace(
                self.identity, incarnation=answer.incarnation, stage=Stage.JOINING
            )
            self._identities.save(self.identity)
            self._all_stored = True
        else:
            consider(self, other, answer)

    return [(Founder, "_consider_started", join), *_no_look_at_disks(), *_nothing_noted()]


def _no_look_at_disks() -> list[Patch]:
    refusal_of = PeerRegister._refusal_of

    def look(
        self: PeerRegister, caller: Caller, membership: Membership, version: int
    ) -> HandshakeRefused | None:
        return refusal_of(self, caller, replace(membership, disk_ids={}), version)

    return [(PeerRegister, "_refusal_of", look)]


def _nothing_noted() -> list[Patch]:
    def record_of(self: PeerRegister, member: int) -> MemberNote:
        return MemberNote()

    return [(PeerRegister, "_record_of", record_of)]


@mutant(
    "older copies are admitted",
    "copied-disks",
    caught_by="takes part",
    seeds=range(1, 31),
)
def older_copies_are_admitted() -> list[Patch]:
    """Peers note nothing of each other's starts and acknowledgements."""
    return _nothing_noted()


@mutant(
    "acknowledgements are not noted",
    "copied-disks",
    caught_by="takes part",
    seeds=range(1, 41),
)
def acknowledgements_are_not_noted() -> list[Patch]:
    """Peers note each other's starts, and not up to where what is committed was acknowledged."""

    def acknowledged(self: PeerRegister, by_member: Mapping[int, Acknowledged]) -> None:
        pass

    return [(PeerRegister, "acknowledged", acknowledged)]


@mutant(
    "notes are kept in memory only",
    "copied-disks",
    caught_by="takes part",
    seeds=range(1, 61),
)
def notes_are_kept_in_memory_only() -> list[Patch]:
    """What peers note of each other does not outlive their own restart."""

    async def write(self: PeerRegister) -> None:
        self._written = self._starts
        await asyncio.sleep(0)

    return [(PeerRegister, "write", write)]


@mutant(
    "two processes on one disk are admitted",
    "cloned-disks",
    caught_by="of two nodes that run from one disk, one left service",
    seeds=range(1, 31),
)
def clones_are_admitted() -> list[Patch]:
    """Of two processes on copies of one disk each is admitted by all, and both go on."""

    def admitted(
        self: PeerRegister, caller: Caller, membership: Membership
    ) -> HandshakeRefused | None:
        return None

    return [*_nothing_noted(), (PeerRegister, "refusal_of_admitted", admitted)]


@mutant(
    "strangers count as members",
    "strangers",
    caught_by="stopped itself: OutOfService",
)
def strangers_are_members() -> list[Patch]:
    """A message that contradicts Raft takes the node out of service, even from a stranger."""

    def known(self: NodePeerHandler, peer: int) -> bool:
        return True

    return [(NodePeerHandler, "_is_known", known)]


@mutant(
    "one word is enough to be removed",
    "strangers",
    caught_by="stopped as removed, and it is a member",
)
def one_word_is_enough_to_be_removed() -> list[Patch]:
    """A node stops when any caller says that it was removed."""

    def refused(self: NodePeerHandler, by: int, refused: HandshakeRefused) -> None:
        if refused.reason is Refusal.REMOVED:
            self._removal.reported(by)

    def tick(self: RemovalReports, others: object, connected: object) -> frozenset[int]:
        return frozenset(self._reporters)

    return [(NodePeerHandler, "refused", refused), (RemovalReports, "tick", tick)]


@mutant(
    "terms are not bounded",
    "strangers",
    caught_by="stopped itself: ValueError: Value out of range",
)
def terms_are_not_bounded() -> list[Patch]:
    """A term of a stranger's choice is taken, whatever it is."""

    def sane(self: NodePeerHandler, message: Message) -> None:
        pass

    def check(frame: object, sender: int) -> None:
        pass

    return [(NodePeerHandler, "_require_sane_term", sane), (bounds, "check_frame", check)]


@mutant(
    "a stranger's forward is proposed",
    "strangers",
    caught_by="with commands that no client has submitted",
)
def forwards_are_not_checked() -> list[Patch]:
    """Every forwarded command is proposed unchecked."""

    def take(self: Proposer, sender: int, forwards: Sequence[Forward]) -> None:
        self._unchecked.extend((sender, forward) for forward in forwards)

    def check(commands: bytes, limits: object) -> Steps[Checked]:
        yield from ()
        return Checked([], 1)

    return [(proposer, "check_forwarded", check), (Proposer, "take_forwards", take)]


@mutant(
    "the cluster version is raised too early",
    "older-programs",
    caught_by="stopped itself: ConfigurationError",
    seeds=range(1, 21),
)
def version_raised_by_a_majority() -> list[Patch]:
    """The leader raises the cluster version when a majority has reported that it can."""

    def next_version(
        cluster_version: int, membership: Membership, callers: Mapping[int, Caller]
    ) -> int | None:
        version = cluster_version + 1
        able = [id for id in membership.voters & callers.keys() if version in callers[id].versions]
        enough = 2 * len(able) > len(membership.voters) and version in SUPPORTED
        return version if enough else None

    return [(leader_maintenance, "next_version", next_version)]


@mutant(
    "states are not compared",
    "wrong-states",
    caught_by="every node with a wrong state has left service",
)
def states_are_not_compared() -> list[Patch]:
    """Marks are exchanged, and nobody looks at them."""

    def judge(self: StateComparison, *_: object) -> Judgement:
        return NOTHING_FOUND

    return [(StateComparison, "judge", judge)]


@mutant(
    "states are not compared",
    "wrong-states",
    caught_by="every node with a wrong state has left service",
)
def old_versions_are_not_hashed() -> list[Patch]:
    """The hash has only what the log says: keys and values, and not the rows that came of them."""
    add = StateHash.add

    def hash_keys(self: StateHash, meta: Meta, effects: Sequence[bytes]) -> None:
        add(self, meta, [each for each in effects if each[:1] in (CHANGE_PUT, CHANGE_DELETE)][:1])

    return [(StateHash, "add", hash_keys)]


MUTANTS = (
    silence_is_an_empty_disk,
    an_emptied_disk_takes_its_old_part,
    older_copies_are_admitted,
    acknowledgements_are_not_noted,
    notes_are_kept_in_memory_only,
    clones_are_admitted,
    strangers_are_members,
    one_word_is_enough_to_be_removed,
    terms_are_not_bounded,
    forwards_are_not_checked,
    version_raised_by_a_majority,
    states_are_not_compared,
    old_versions_are_not_hashed,
)
