"""`raftkv member replace`: replaces a node by a new one, step by step, until the new one votes."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from raftkv.errors import (
    DeadlineExceeded,
    InvalidRequest,
    MembershipRefused,
    OutcomeUnknown,
    RaftkvError,
    Unavailable,
)

if TYPE_CHECKING:
    from raftkv.client.client import Client
    from raftkv.client.model.status import Member

CALL_TIMEOUT_S = 5.0
STATUS_TIMEOUT_S = 1.0
PAUSE_S = 0.5
OUTAGE_S_MAX = 60.0


class Report:
    """Messages for the operator on standard error; progress only on a terminal."""

    def __init__(self) -> None:
        self._unfinished = False

    def step(self, text: str) -> None:
        """Print a step that was done, or that the operator must do."""
        self.end()
        typer.echo(text, err=True)

    def progress(self, text: str) -> None:
        """Show what the command waits for; the next message overwrites it."""
        if sys.stderr.isatty():
            self._unfinished = True
            typer.echo(f"\r\x1b[K{text}", err=True, nl=False)

    def end(self) -> None:
        if self._unfinished:
            typer.echo("\r\x1b[K", err=True, nl=False)
        self._unfinished = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """The requested replacement. The addresses are empty for a node that is a member already.

    `timeout_s` None: no limit; 0: try once.
    """

    old_id: int
    new_id: int
    peer: str
    client: str
    force: bool
    timeout_s: float | None


async def replace(cluster: Client, wanted: Wanted, report: Report) -> tuple[Member, ...]:
    """Add the new node, wait until it has started and caught up, then replace; returns the members.

    It continues from the cluster's present state, so it can be repeated after any failure. Raises
    the cluster's final refusal, `DeadlineExceeded` after `timeout_s`, `Unavailable` after an outage
    of a minute, and `InvalidRequest` if addresses are missing or are not those of the member.
    """
    try:
        return await _Replacement(cluster, wanted, report).run()
    finally:
        report.end()


class _Replacement:
    def __init__(self, cluster: Client, wanted: Wanted, report: Report) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._began_s = self._answered_s = self._loop.time()
        self._last: RaftkvError | None = None
        self._serve_line_shown = False

    async def run(self) -> tuple[Member, ...]:
        while True:
            try:
                await self._add_if_unknown()
                return await self._cluster.member_replace(
                    self._wanted.old_id,
                    self._wanted.new_id,
                    force=self._wanted.force,
                    timeout=self._call_timeout_s(),
                )
            except (MembershipRefused, Unavailable, OutcomeUnknown) as error:
                await self._wait_after(error)

    async def _add_if_unknown(self) -> None:
        wanted = self._wanted
        members = await self._members()
        known = members.get(wanted.new_id)
        if known is not None:
            _check_same_addresses(wanted, known)
        # If the old node is no member either, the cluster's own error explains it.
        if known is not None or wanted.old_id not in members:
            return
        if not wanted.peer or not wanted.client:
            raise InvalidRequest(
                f"node {wanted.new_id} is not a member yet; say with --peer and --client where it"
                " will be reached, as in --peer 10.0.0.4:7511 --client 10.0.0.4:7411"
            )
        await self._cluster.member_add(
            wanted.new_id,
            wanted.peer,
            wanted.client,
            force=wanted.force,
            timeout=self._call_timeout_s(),
        )
        self._report.step(f"node {wanted.new_id} has been added as a learner")
        await self._show_serve_line()

    async def _wait_after(self, error: RaftkvError) -> None:
        """Wait before the next attempt. Raises `error` if waiting does not help."""
        self._last = error
        if isinstance(error, MembershipRefused):
            self._answered_s = self._loop.time()
            if not error.retry_after_s:
                raise error
            if error.facts.get("started") == "False":
                await self._show_serve_line()
        elif self._loop.time() - self._answered_s > OUTAGE_S_MAX:
            raise error
        self._report.progress(self._progress_of(error))
        self._call_timeout_s()
        await asyncio.sleep(error.retry_after_s or PAUSE_S)

    async def _show_serve_line(self) -> None:
        if not self._serve_line_shown:
            self._serve_line_shown = True
            member = (await self._members())[self._wanted.new_id]
            line = await serve_line(self._cluster, member)
            self._report.step(f"Now start it, and leave this command running: {line}")

    def _progress_of(self, error: RaftkvError) -> str:
        lag = error.facts.get("lag")
        if lag is None:
            return error.message
        snapshot = error.facts.get("replication") == "snapshot"
        return f"node {self._wanted.new_id} catches up: it lacks {lag} entries" + (
            ", a snapshot is on its way" if snapshot else ""
        )

    def _call_timeout_s(self) -> float:
        """The timeout of the next call. Raises after the operator's timeout."""
        wanted = self._wanted
        if wanted.timeout_s is None or (not wanted.timeout_s and self._last is None):
            return CALL_TIMEOUT_S
        left_s = self._began_s + wanted.timeout_s - self._loop.time()
        if left_s > 0:
            return min(CALL_TIMEOUT_S, left_s)
        if isinstance(self._last, OutcomeUnknown):
            raise self._last
        why = f" ({self._last.message})" if self._last is not None else ""
        raise DeadlineExceeded(
            f"node {wanted.old_id} was not replaced within {wanted.timeout_s:g} s{why}; repeat this"
            " command to go on"
        )

    async def _members(self) -> dict[int, Member]:
        members = await self._cluster.member_list(timeout=self._call_timeout_s())
        return {member.node_id: member for member in members}


def _check_same_addresses(wanted: Wanted, known: Member) -> None:
    given = (wanted.peer or known.peer_address, wanted.client or known.client_address)
    if given != (known.peer_address, known.client_address):
        raise InvalidRequest(
            f"node {known.node_id} is a member already, at {known.peer_address} for nodes and"
            f" {known.client_address} for clients; leave --peer and --client out, or change its"
            f" addresses first (`raftkv member update {known.node_id}`)"
        )


async def serve_line(cluster: Client, member: Member) -> str:
    """The command that starts this added node, with a member that answers as --join."""
    from raftkv.node.addresses import is_loopback

    local = is_loopback(member.peer_address) and is_loopback(member.client_address)
    return (
        f"raftkv serve --node-id {member.node_id}"
        f" --join {await _address_to_join(cluster, member.node_id)}"
        f" --peer-listen {member.peer_address} --client-listen {member.client_address}"
        f"{'' if local else ' --allow-insecure-network'}"
    )


async def _address_to_join(cluster: Client, node_id: int) -> str:
    """The client address of another node that answers, from the membership; the leader's first."""
    answers = await cluster.status_all(timeout=STATUS_TIMEOUT_S)
    up = [
        answer
        for answer in answers.values()
        if not isinstance(answer, RaftkvError)
        and answer.node_id != node_id
        and not answer.not_serving
    ]
    for node in sorted(up, key=lambda each: each.node_id != each.leader_id):
        for member in node.members:
            if member.node_id == node.node_id:
                return member.client_address
    return cluster.endpoints[0]
