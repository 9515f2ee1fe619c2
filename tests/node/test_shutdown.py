"""The log of a leader that is stopped: a warning only if the end of its leadership is a fault."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from tests.node.wire import cluster_of

ENDS = {"leadership_kept", "shutdown_in_haste"}


async def logged_by_the_leader(directory: Path, connected: frozenset[int]) -> set[tuple[str, str]]:
    """The events of a leader that is cut off while its links to `connected` seem to be up."""
    async with cluster_of(directory, 1, leader_lease=False) as (wire, leader):
        wire.cut_off.add(leader.node_id)
        wire.links[leader.node_id].connected = connected - {leader.node_id}
        with capture_logs() as events:
            await leader.stop()
    return {(event["event"], event["log_level"]) for event in events if event["event"] in ENDS}


async def test_when_all_nodes_stop_at_once_no_warning_is_logged(tmp_path: Path) -> None:
    assert await logged_by_the_leader(tmp_path, frozenset()) == {("leadership_kept", "info")}


async def test_a_stop_without_a_successor_logs_a_warning(tmp_path: Path) -> None:
    all_nodes = frozenset({1, 2, 3})
    assert await logged_by_the_leader(tmp_path, all_nodes) == {("shutdown_in_haste", "warning")}
