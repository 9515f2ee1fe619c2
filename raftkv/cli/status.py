"""`raftkv status`: an overview of the cluster, also with nodes down."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli.client_command import Options, Output, options_of
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.output import duration, print_json, print_table, size, table
from raftkv.cli.streams import output_failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import ConsoleRenderable

    from raftkv.client.client import Client
    from raftkv.client.model.status import NodeStatus
    from raftkv.errors import RaftkvError

COLUMNS = [
    "id", "address", "role", "term", "commit", "applied", "lag", "contact", "disk", "memory",
    "disk free", "uptime",
]  # fmt: skip
ASK_S_MAX = 2.0
WIDTH_FOR_ALL = 110
COLUMNS_IF_NARROW = 10


@dataclass(frozen=True, slots=True)
class StatusRow:
    """A member, as the cluster and the node itself report it. None: unknown."""

    node_id: int | None
    address: str
    role: str
    term: int | None = None
    commit_index: int | None = None
    applied_index: int | None = None
    lag_entries: int | None = None  # behind the highest commit index that any node reports
    last_contact_ms: int | None = None  # since the leader's last contact with it
    disk_bytes: int | None = None
    disk_free_bytes: int | None = None
    memory_bytes: int | None = None
    uptime_ms: int | None = None
    error: str = ""
    not_serving: str = ""  # why it serves no requests
    notice: str = ""  # a warning of a node that serves
    voter: bool | None = None  # None: not a member

    @property
    def trouble(self) -> str:
        """Why this node can't serve; empty if it can."""
        return self.error or self.not_serving


@dataclass(frozen=True, slots=True)
class Overview:
    """The cluster, as reported by its nodes. `leader_id` 0: unknown."""

    cluster_id: str
    incarnation: str  # empty: unknown
    leader_id: int
    term: int
    revision: int
    nodes: tuple[StatusRow, ...]
    cluster_version: int = 0
    compacted_revision: int = 0  # the oldest that every node can read; 0: nothing is compacted


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until Ctrl-C, again.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Show every node: role, term, commit, applied, lag, last contact, disk, memory.

    Asks each node itself, so it works without a majority. Exits with 4 if no leader is known.
    """
    import asyncio

    options = options_of(context)
    if watch:
        asyncio.run(_look_until_signal(options, interval))
        return
    overview = asyncio.run(look(options))
    show(overview, options.output)
    if not overview.leader_id:
        raise typer.Exit(ExitCode.UNAVAILABLE)


async def _look_until_signal(options: Options, interval_s: float) -> None:
    import asyncio

    from raftkv.cli.event_loop import ENDING, Signals

    with Signals(ENDING) as signals:
        signals.cancel(asyncio.current_task())
        try:
            await _look_again_and_again(options, interval_s)
        except asyncio.CancelledError:
            if signals.received is None:
                raise


async def _look_again_and_again(options: Options, interval_s: float) -> None:
    import asyncio

    if options.output is Output.JSON or not sys.stdout.isatty():
        while not output_failed():
            show(await look(options), options.output)
            await asyncio.sleep(interval_s)
        return
    from rich.live import Live

    with Live(auto_refresh=False, screen=True) as live:
        while not output_failed():
            overview = await look(options)
            live.update(_screen(overview, live.console.width), refresh=True)
            await asyncio.sleep(interval_s)


async def look(options: Options) -> Overview:
    """Ask every node of the cluster once, also those that --endpoints does not name."""
    from raftkv.client.connection.endpoints import split_scheme
    from raftkv.errors import ConnectionFailed

    timeout_s = min(options.timeout_s, ASK_S_MAX)
    try:
        async with options.connect(timeout_s) as client:
            return await overview_by(client, timeout_s)
    except ConnectionFailed as error:
        addresses, _ = split_scheme(options.endpoints)
        return overview_of(dict.fromkeys(addresses, error))


async def overview_by(client: Client, timeout_s: float) -> Overview:
    """As `look`, by a client that is connected."""
    return overview_of(await _ask_all(client, timeout_s))


async def _ask_all(client: Client, timeout_s: float) -> Mapping[str, NodeStatus | RaftkvError]:
    import asyncio

    from raftkv.errors import RaftkvError

    answers = dict(await client.status_all(timeout=timeout_s))
    known = [answer for answer in answers.values() if not isinstance(answer, RaftkvError)]
    answered = {answer.node_id for answer in known}
    missing = {
        member.client_address
        for answer in known
        for member in answer.members
        if member.node_id not in answered
    } - set(answers)

    async def ask(address: str) -> NodeStatus | RaftkvError:
        try:
            return await client.status(address, timeout=timeout_s)
        except RaftkvError as error:
            return error

    answers.update(zip(missing, await asyncio.gather(*map(ask, missing)), strict=True))
    return answers


def overview_of(answers: Mapping[str, NodeStatus | RaftkvError]) -> Overview:
    """Combine the reports of the nodes, and the leader's report of nodes that do not answer.

    Raises `WrongCluster` if they do not all belong to one.
    """
    from raftkv.client.model.status import Role
    from raftkv.errors import RaftkvError, WrongCluster

    for answer in answers.values():
        if isinstance(answer, WrongCluster):
            raise answer  # another cluster appeared after the client connected
    nodes = {
        answer.node_id: answer for answer in answers.values() if not isinstance(answer, RaftkvError)
    }
    if not nodes:
        rows = (
            StatusRow(None, address, "unreachable", error=str(error))
            for address, error in answers.items()
        )
        return Overview("", "", 0, 0, 0, tuple(rows))
    newest = max(nodes.values(), key=lambda node: (node.term, node.role is Role.LEADER))
    leader = newest if newest.role is Role.LEADER else None
    commit_index = max(node.commit_index for node in nodes.values())
    contacts = {peer.node_id: peer.last_contact_ms for peer in leader.peers} if leader else {}
    members = {member.node_id: member for member in newest.members}
    rows_by_id: dict[int, StatusRow] = {}
    for node_id in sorted({*members, *nodes}):
        contact = contacts.get(node_id)
        voter = not members[node_id].learner if node_id in members else None
        if node_id in nodes:
            row = _row(nodes[node_id], commit_index, contact)
            rows_by_id[node_id] = replace(row, voter=voter)
        else:
            address = members[node_id].client_address
            role = "unreachable" if members[node_id].started else "not started"
            error = str(answers.get(address, "not asked"))
            rows_by_id[node_id] = StatusRow(
                node_id, address, role, last_contact_ms=contact, error=error, voter=voter
            )
    return Overview(
        cluster_id=f"{newest.cluster_id:016x}",
        incarnation=f"{newest.incarnation:016x}" if newest.incarnation else "",
        leader_id=newest.leader_id,
        term=newest.term,
        revision=max(node.revision for node in nodes.values()),
        nodes=tuple(rows_by_id.values()),
        cluster_version=max(node.cluster_version for node in nodes.values()),
        compacted_revision=max(node.compacted_revision for node in nodes.values()),
    )


def _row(node: NodeStatus, commit_index: int, contact_ms: int | None) -> StatusRow:
    return StatusRow(
        node_id=node.node_id,
        address=node.endpoint,
        role=_role_of(node),
        term=node.term,
        commit_index=node.commit_index,
        applied_index=node.applied_index,
        lag_entries=max(0, commit_index - node.applied_index),
        last_contact_ms=contact_ms,
        disk_bytes=node.disk_bytes,
        disk_free_bytes=node.disk_free_bytes,
        memory_bytes=node.memory_bytes,
        uptime_ms=node.uptime_ms,
        not_serving=node.not_serving,
        notice=node.notice,
    )


def _role_of(node: NodeStatus) -> str:
    if node.not_serving:
        return "not serving"
    return "learner" if node.learner else node.role.value


def show(overview: Overview, output: Output) -> None:
    if output is Output.JSON:
        print_json(asdict(overview))
        return
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        console.print(_screen(overview, console.width))
    else:
        # Twelve columns without a heading would be unreadable.
        rows = [[*cells(row), row.trouble or "-", row.notice or "-"] for row in overview.nodes]
        print_table([*COLUMNS, "error", "notice"], rows, heading_in_pipe=True)


def headline(overview: Overview) -> str:
    leader = f"leader: node {overview.leader_id}" if overview.leader_id else "no leader"
    if not overview.cluster_id:
        return "no node answers"
    oldest = overview.compacted_revision
    return (
        f"cluster {overview.cluster_id}   version {overview.cluster_version}   {leader}"
        f"   term {overview.term}   revision {overview.revision}"
        f"   history {f'from revision {oldest}' if oldest else 'complete'}"
    )


def causes(overview: Overview) -> list[str]:
    """What a node's operator should know, too long for a terminal's column: why it is unreachable,
    said once if that is the same for all, why it serves nothing, and other notices.
    """
    errors = {row.error for row in overview.nodes if row.error}
    if len(errors) == 1 and len(overview.nodes) > 1 and all(row.error for row in overview.nodes):
        return list(errors)
    return [
        f"{row.address if row.node_id is None else f'node {row.node_id}'}: {text}"
        for row in overview.nodes
        for text in (
            row.error,
            f"serves nothing: {row.not_serving}" if row.not_serving else "",
            row.notice,
        )
        if text
    ]


def cells(row: StatusRow) -> list[str]:
    """A row as text; an unknown value is a dash."""

    def number(value: int | None) -> str:
        return "-" if value is None else str(value)

    def amount(value: int | None) -> str:
        return "-" if value is None else size(value)

    return [
        number(row.node_id),
        row.address,
        row.role,
        number(row.term),
        number(row.commit_index),
        number(row.applied_index),
        number(row.lag_entries),
        "-" if row.last_contact_ms is None else duration(row.last_contact_ms),
        amount(row.disk_bytes),
        amount(row.memory_bytes),
        amount(row.disk_free_bytes),
        "-" if row.uptime_ms is None else duration(row.uptime_ms),
    ]


def _screen(overview: Overview, width: int) -> ConsoleRenderable:
    from rich.console import Group
    from rich.text import Text

    dense = width < WIDTH_FOR_ALL
    shown = COLUMNS_IF_NARROW if dense else len(COLUMNS)
    rows = [cells(row)[:shown] for row in overview.nodes]
    heading = Text(headline(overview), style="bold")
    shown_rows = table(COLUMNS[:shown], rows, dense=dense)
    return Group(heading, Text(), shown_rows, *map(Text, causes(overview)))
