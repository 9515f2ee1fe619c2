"""The founding of a cluster by its first nodes: once, together, and only on empty disks.

1.  Each founder asks all others. While one does not answer nothing happens, because its disk may
    hold entries that the cluster has acknowledged.
2.  When all report empty disks, the founder with the lowest id draws the incarnation, stores it
    with the first membership (which has the disk id of each founder), and sends both to the others.
3.  When all have stored both, and only then, they begin to take part in Raft.

After a crash at any step a founder goes on from what is stored. Before step 3 no node has voted, so
no vote can be lost; from step 2 on an emptied disk shows by its id.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from random import Random

import structlog

from raftkv.errors import DamagedData, InvalidRequest, OutOfService, Unavailable
from raftkv.peer.ports import FounderStage, Founding
from raftkv.raft.entry import Address, Membership
from raftkv.storage.identity import DirectoryIdentity, IdentityStore, Stage
from raftkv.versions import SUPPORTED, VersionRange
from raftkv.wire.membership import decode_membership, encode_membership

ROUND_S_MIN = 0.1
ROUND_S_MAX = 1.0

FOUND_AGAIN = (
    "Nobody has voted yet, and nothing was written: stop all founders, empty the directory of each,"
    " and start them again"
)

Ask = Callable[[int, Founding], Awaitable[Founding]]
"""Sends this founder's report to another one; returns its answer. Raises `Unavailable`."""


class Founder:
    """One node's part in it; a `FounderPort` before and after.

    `initial` are the first nodes of this node's settings, `without` those of them that the operator
    has given up. Both count until the first membership is stored, which has the founders from then
    on. `waiting_for` has the missing founders, each with the reason.
    """

    def __init__(
        self,
        identities: IdentityStore,
        identity: DirectoryIdentity,
        initial: Mapping[int, Address],
        without: frozenset[int],
        rng: Random,
        versions: VersionRange = SUPPORTED,
    ) -> None:
        self.identity = identity
        self.waiting_for: dict[int, str] = {}
        self._identities = identities
        self._initial = dict(sorted(initial.items()))
        self._without = without
        self._rng = rng
        self._versions = versions
        self._all_stored = False
        self._reports: dict[int, Founding] = {}
        """The last report of each founder."""

        self._changed = asyncio.Event()
        """There is a reason to ask the others again now."""

        self._membership: Callable[[], Membership] = Membership
        self._log = structlog.get_logger("raftkv.node").bind(node=identity.node_id)

    @property
    def founders(self) -> Mapping[int, Address]:
        """The founders, and the addresses to dial."""
        if not self.identity.membership:
            return {id: at for id, at in self._initial.items() if id not in self._without}
        stored = decode_membership(self.identity.membership)
        return {id: self._initial.get(id, at) for id, at in sorted(stored.addresses.items())}

    async def found(self, ask: Ask) -> DirectoryIdentity:
        """Ask the others until the cluster is founded; what is stored then.

        Raises `DamagedData` if this node's disk must not be empty, `OutOfService` if it has a
        part in another life of the cluster.
        """
        logged: dict[int, str] = {}
        while not self._all_stored:
            answers = await self._ask_all(ask)
            self._consider(answers)
            if self.waiting_for != logged:
                logged = dict(self.waiting_for)
                self._log.info("founding_waits", missing=sorted(logged), why=logged)
            if self._all_stored:
                await self._ask_all(ask)  # so that they start as well
            else:
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._rng.uniform(ROUND_S_MIN, ROUND_S_MAX)):
                        await self._changed.wait()
        self._log.info("cluster_founded", incarnation=f"{self.identity.incarnation:016x}")
        return self.identity

    def answer(self, sender: int, said: Founding) -> Founding:
        """Consider the report of the founder `sender`; returns this node's report."""
        refusal, before = "", (self.identity, self._all_stored)
        if self.identity.stage is Stage.FOUNDING and said.stage is FounderStage.STORED:
            if not self.identity.incarnation:
                refusal = self._why_not_stored(sender, said)
                if not refusal:
                    self._store(said.incarnation, said.membership, said.versions.maximum)
            if self.identity.incarnation == said.incarnation:
                self._all_stored |= said.all_stored
        # An unchanged report is no reason to ask: two waiting founders would ask without a pause.
        changed = sender in self.waiting_for and self._reports.get(sender) != said
        if sender in self.founders:
            self._reports[sender] = said
        if changed or before != (self.identity, self._all_stored):
            self._changed.set()
        return replace(self.report, refusal=refusal)

    def started(self, identity: DirectoryIdentity, membership: Callable[[], Membership]) -> None:
        """The node takes part in its cluster; `membership` returns the present one."""
        self.identity, self._membership = identity, membership

    @property
    def report(self) -> Founding:
        """What is on this node's disk."""
        identity = self.identity
        stage, membership = FounderStage.EMPTY, b""
        if identity.stage is not Stage.FOUNDING:
            stage = FounderStage.STARTED
            membership = encode_membership(self._membership())
        elif identity.incarnation:
            stage, membership = FounderStage.STORED, identity.membership
        return Founding(
            stage,
            identity.incarnation,
            membership,
            self._all_stored or stage is FounderStage.STARTED,
            identity.disk_id,
            self._digest,
            versions=VersionRange(identity.version, identity.version)
            if stage is FounderStage.STORED
            else self._versions,
        )

    @property
    def _digest(self) -> bytes:
        lines = [f"{id}={at.peer}/{at.client}" for id, at in self.founders.items()]
        return hashlib.sha256("\n".join(lines).encode()).digest()

    async def _ask_all(self, ask: Ask) -> dict[int, Founding]:
        others = [id for id in self.founders if id != self.identity.node_id]
        report = self.report
        replies = await asyncio.gather(
            *(ask(other, report) for other in others), return_exceptions=True
        )
        answers: dict[int, Founding] = {}
        self.waiting_for = {}
        for other, reply in zip(others, replies, strict=True):
            if isinstance(reply, Founding):
                answers[other] = reply
            elif isinstance(reply, Unavailable | InvalidRequest):
                self.waiting_for[other] = reply.message
            else:
                raise reply
        return answers

    def _consider(self, answers: Mapping[int, Founding]) -> None:
        """Do the next step if these answers allow it."""
        silent = dict(self.waiting_for)
        stuck = ""
        # Members of a cluster first: the other disks may have the last copies of its entries.
        for other, answer in sorted(answers.items(), key=lambda each: (-each[1].stage, each[0])):
            if answer.stage is FounderStage.STARTED:
                self._consider_started(other, answer)
            elif answer.stage is FounderStage.STORED:
                stuck = self._consider_stored(other, answer) or stuck
            else:
                self._consider_empty(other, answer)
        if not self._all_stored and self._no_node_has_voted(answers):
            if stuck:
                raise DamagedData(f"{stuck}. {FOUND_AGAIN}")
            for id in self.founders.keys() & silent.keys() & self._without:
                self.waiting_for[id] += f"; it has a part in what is stored here. {FOUND_AGAIN}"
        if self.identity.node_id == min(self.founders) and not self.waiting_for:
            if self.identity.incarnation:
                self._all_stored = True
            else:
                self._draw(answers)

    def _no_node_has_voted(self, answers: Mapping[int, Founding]) -> bool:
        """Whether that is certain: of all founders in any stored membership, at most those that
        the operator has given up do not answer, and they are too few to have committed an entry.
        """
        stored = [answer.membership for answer in answers.values() if answer.membership]
        founders = {
            *self.founders,
            *(id for each in stored for id in decode_membership(each).voters),
        }
        silent = founders - answers.keys() - {self.identity.node_id}
        taking_part = any(each.stage is FounderStage.STARTED for each in answers.values())
        return not taking_part and silent <= self._without and 2 * len(silent) < len(founders)

    def _consider_empty(self, other: int, answer: Founding) -> None:
        if self.identity.incarnation:
            self.waiting_for[other] = answer.refusal or "it has yet to store the first membership"
        elif answer.founders != self._digest:
            self.waiting_for[other] = "it was started with other initial_members"

    def _consider_started(self, other: int, answer: Founding) -> None:
        """The other takes part in a cluster."""
        if answer.incarnation == self.identity.incarnation:
            self._all_stored = True
        elif not self.identity.incarnation and not answer.membership:
            self.waiting_for[other] = "it is starting"
        else:
            self._refuse_other_cluster(other, answer)

    def _consider_stored(self, other: int, answer: Founding) -> str:
        """The other's disk is not empty. Why the founders can't go on; empty if they can."""
        own, first = self.identity, min(self.founders)
        reason = ""
        if answer.incarnation == own.incarnation:
            self._all_stored |= answer.all_stored
        elif own.incarnation or answer.all_stored:
            self._refuse_other_cluster(other, answer)
        elif other == first:
            reason = self._why_not_stored(other, answer)
            if not reason:
                self._store(answer.incarnation, answer.membership, answer.versions.maximum)
        elif own.node_id == first:
            reason = f"the disk of node {first} has been emptied since it was the first to store"
        if reason:
            self.waiting_for[other] = reason
        return reason

    def _draw(self, answers: Mapping[int, Founding]) -> None:
        """All founders have empty disks: decide what the cluster begins with, and store it."""
        founders, own = self.founders, self.identity
        disk_ids = {id: answer.disk_id for id, answer in answers.items()}
        disk_ids[own.node_id] = own.disk_id
        ranges = [self._versions, *(answer.versions for answer in answers.values())]
        version = min(each.maximum for each in ranges)
        for other, answer in answers.items():
            if version < max(answer.versions.minimum, self._versions.minimum):
                self.waiting_for[other] = f"it can take part in cluster versions {answer.versions}"
        if self.waiting_for:
            return
        membership = Membership(voters=frozenset(founders), addresses=founders, disk_ids=disk_ids)
        self._store(self._rng.getrandbits(64) or 1, encode_membership(membership), version)
        if len(founders) == 1:
            self._all_stored = True

    def _store(self, incarnation: int, membership: bytes, version: int) -> None:
        stored = replace(
            self.identity, incarnation=incarnation, membership=membership, version=version
        )
        # Before any report has it.
        self._identities.save(stored)
        self.identity = stored

    def _why_not_stored(self, sender: int, said: Founding) -> str:
        """Why this node does not store what the founder `sender` has decided; empty if it does."""
        own = self.identity
        membership = decode_membership(said.membership)
        if own.node_id not in membership.voters or sender != min(membership.voters):
            return f"node {own.node_id} is not among those that node {sender} founds a cluster with"
        if membership.disk_ids.get(own.node_id) != own.disk_id:
            return f"the disk of node {own.node_id} has been emptied since node {sender} asked it"
        if said.versions.maximum not in self._versions:
            return f"node {own.node_id} can take part in cluster versions {self._versions}"
        return ""

    def _refuse_other_cluster(self, other: int, answer: Founding) -> None:
        """Another founder belongs to a cluster that this disk does not belong to: raise."""
        own, id = self.identity, self.identity.node_id
        if own.incarnation:
            raise OutOfService(
                f"this disk belongs to the cluster that was founded as {own.incarnation:016x}, node"
                f" {other} to {answer.incarnation:016x}: the same settings founded two. Keep both"
                " directories until you know which one has your data"
            )
        known = decode_membership(answer.membership) if answer.membership else Membership()
        if known.members and id not in known.members and id not in known.removed:
            at, there = self.founders[id], self.founders[other].client
            raise DamagedData(
                f"the cluster was founded without node {id}. Fix: run `raftkv member add {id}"
                f" --peer {at.peer} --client {at.client} -e {there}`, and start this node with"
                f" --join {there} in place of --initial-members"
            )
        raise DamagedData(
            f"the disk of node {id} is empty, but node {other} belongs to a cluster in which node"
            f" {id} has a part: its log and votes are lost, and under this id it could undo what it"
            " has acknowledged. Put the directory back, or, as the others have the data, replace it"
            f" by a node with a new id: `raftkv member replace {id} NEW --peer HOST:PORT --client"
            " HOST:PORT`"
        )
