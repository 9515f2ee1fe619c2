"""`raftkv autopilot`: which members are healthy, and how many failures the cluster tolerates."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import typer

from raftkv.cli.client_command import Output, options_of
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.output import duration, print_json, print_table
from raftkv.cli.status import Overview, StatusRow, look

LAG_ENTRIES_MAX = 1_000
"""A member that lacks more committed entries has not caught up."""

CONTACT_MS_MAX = 2_000
"""A member from which the leader has received nothing for longer is not healthy."""


@dataclass(frozen=True, slots=True)
class MemberHealth:
    """A member, and why it is not healthy; `trouble` is empty if it is. None: unknown."""

    node_id: int
    address: str
    voter: bool
    leader: bool
    healthy: bool
    lag_entries: int | None
    last_contact_ms: int | None
    trouble: str


@dataclass(frozen=True, slots=True)
class ClusterHealth:
    """The members, and what follows for the cluster.

    `failures_tolerated`: how many of the healthy voters may fail, and the rest is still a majority.
    `leader_id` 0: unknown. `healthy`: all members are, and one of them leads.
    """

    healthy: bool
    leader_id: int
    voters: int
    healthy_voters: int
    quorum: int
    failures_tolerated: int
    members: tuple[MemberHealth, ...]

    def remaining(self, without: int) -> frozenset[int]:
        """The healthy voters but `without`."""
        voters = (each for each in self.members if each.voter and each.healthy)
        return frozenset(each.node_id for each in voters) - {without}


def autopilot(context: typer.Context) -> None:
    """Show whether each member is healthy, and how many failures the cluster tolerates now.

    Asks each node itself, so it works without a majority. A member is healthy if it answers and
    serves, lacks at most 1,000 committed entries, and was in contact with the leader within 2 s.
    Exits with 0 if all members are healthy and one leads, otherwise with 1.
    """
    import asyncio

    options = options_of(context)
    overview = asyncio.run(look(options))
    health = health_of(overview)
    if options.output is Output.JSON:
        print_json(asdict(health))
    else:
        _show(health)
    if not health.healthy:
        raise typer.Exit(ExitCode.ERROR)


def health_of(overview: Overview) -> ClusterHealth:
    """Judge what the nodes report."""
    members = tuple(
        _judged(row, row.node_id, overview.leader_id, voter=row.voter)
        for row in overview.nodes
        if row.node_id is not None and row.voter is not None
    )
    voters = [each for each in members if each.voter]
    healthy_voters = sum(each.healthy for each in voters)
    quorum = len(voters) // 2 + 1 if voters else 0
    return ClusterHealth(
        healthy=bool(members and overview.leader_id) and all(each.healthy for each in members),
        leader_id=overview.leader_id,
        voters=len(voters),
        healthy_voters=healthy_voters,
        quorum=quorum,
        failures_tolerated=max(0, healthy_voters - quorum) if overview.leader_id else 0,
        members=members,
    )


def _judged(row: StatusRow, node_id: int, leader_id: int, *, voter: bool) -> MemberHealth:
    trouble = _trouble(row)
    return MemberHealth(
        node_id=node_id,
        address=row.address,
        voter=voter,
        leader=node_id == leader_id,
        healthy=not trouble,
        lag_entries=row.lag_entries,
        last_contact_ms=row.last_contact_ms,
        trouble=trouble,
    )


def _trouble(row: StatusRow) -> str:
    if row.error:
        return f"{row.role}: {row.error}"
    if row.not_serving:
        return f"serves nothing: {row.not_serving}"
    if row.lag_entries is not None and row.lag_entries > LAG_ENTRIES_MAX:
        return f"it lacks {row.lag_entries} committed entries"
    if row.last_contact_ms is not None and row.last_contact_ms > CONTACT_MS_MAX:
        return f"the leader's last contact with it was {duration(row.last_contact_ms)} ago"
    return ""


def _show(health: ClusterHealth) -> None:
    print_table(
        ["node", "address", "vote", "health", "lag", "contact", "trouble"],
        [
            (
                str(each.node_id),
                each.address,
                ("leader" if each.leader else "voter") if each.voter else "learner",
                "healthy" if each.healthy else "not healthy",
                "-" if each.lag_entries is None else str(each.lag_entries),
                "-" if each.last_contact_ms is None else duration(each.last_contact_ms),
                each.trouble or "-",
            )
            for each in health.members
        ],
        heading_in_pipe=True,
    )
    leader = f"node {health.leader_id} leads" if health.leader_id else "no leader is known"
    typer.echo(
        f"{leader}; {health.healthy_voters} of {health.voters} voters are healthy, {health.quorum}"
        f" are a majority; failures tolerated now: {health.failures_tolerated}"
    )
