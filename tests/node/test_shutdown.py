"""What a leader that is stopped says of its leadership: a fault only where there is one."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from tests.node.wire import cluster_of

FAREWELLS = {"leadership_kept", "shutdown_in_haste"}


async def said_by_the_leader(directory: Path, connected: frozenset[int]) -> set[tuple[str, str]]:
    """Of a leader that nobody hears any more, and that believes to be connected to those."""
    async with cluster_of(directory, 1, leader_lease=False) as (wire, leader):
        wire.cut_off.add(leader.node_id)
        wire.links[leader.node_id].connected = connected - {leader.node_id}
        with capture_logs() as events:
            await leader.stop()
    return {(event["event"], event["log_level"]) for event in events if event["event"] in FAREWELLS}


async def test_when_all_nodes_stop_at_once_no_warning_is_logged(tmp_path: Path) -> None:
    assert await said_by_the_leader(tmp_path, frozenset()) == {("leadership_kept", "info")}


async def test_a_stop_without_a_successor_logs_a_warning(tmp_path: Path) -> None:
    everybody = frozenset({1, 2, 3})
    assert await said_by_the_leader(tmp_path, everybody) == {("shutdown_in_haste", "warning")}
