"""Who is talked to: not who has forgotten what it promised, and not two of one disk."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from raftkv.errors import StorageError
from raftkv.node.peer_register import CALLERS_MAX, PeerRegister
from raftkv.node.replica import LogDisk
from raftkv.peer.handshake import Caller, HandshakeRefused, Refusal
from raftkv.peer.ports import Acknowledged
from raftkv.raft.entry import Membership
from raftkv.storage.memory import MemoryLogStore
from raftkv.storage.ports import MemberNote, Start, Starts
from raftkv.versions import VersionRange
from tests.node.wire import INCARNATION, address_of, members_of

MEMBERS = members_of(1, 2, 3)
CALLER = Caller(
    node_id=2,
    address=address_of(2),
    incarnation=INCARNATION,
    disk_id=2,
    start=Start(5, 50),
    versions=VersionRange(0, 1),
    last_log_index=100,
)


EARLIER = 40
"""The id of a start before the caller's."""


class Register:
    """Node 1's, and its disk."""

    def __init__(self) -> None:
        self.waits = 0
        self.writing = asyncio.Event()
        self.held: asyncio.Event | None = None
        self.log = MemoryLogStore(self._wait)
        self.membership = MEMBERS
        self.cluster_version = 1
        self._open()

    def _open(self) -> None:
        self.register = PeerRegister(1, self.log.recover().starts, LogDisk(self.log))

    async def _wait(self) -> None:
        self.waits += 1
        self.writing.set()
        if self.held is not None:
            await self.held.wait()

    def restart(self) -> None:
        self.log = self.log.crash()
        self._open()

    async def admit(self, caller: Caller = CALLER, **changed: object) -> HandshakeRefused | None:
        return await self.register.admit(
            replace(caller, **changed), self.membership, self.cluster_version
        )

    async def reason(self, **changed: object) -> Refusal | None:
        refused = await self.admit(**changed)
        return None if refused is None else refused.reason

    @property
    def notes(self) -> dict[int, MemberNote]:
        return dict(self.log.recover().starts.notes)


@pytest.fixture
def node() -> Register:
    return Register()


async def test_a_member_is_admitted_once_its_start_is_on_our_disk(node: Register) -> None:
    assert await node.admit() is None
    assert node.notes == {2: MemberNote(Start(5, 50), 0)}
    assert node.register.callers == {2: CALLER}


async def test_the_same_start_again_is_not_written_again(node: Register) -> None:
    await node.admit()
    before = node.waits
    assert await node.admit(last_log_index=200) is None
    assert node.waits == before
    assert node.register.callers[2].last_log_index == 200


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_older_start_is_an_older_copy(node: Register, restarted: bool) -> None:
    await node.admit()
    if restarted:
        node.restart()
    refused = await node.admit(start=Start(4, 40))
    assert refused is not None
    assert refused.reason is Refusal.OLDER_COPY
    assert "start 4" in refused.message
    assert "node 1 has noted start 5" in refused.message
    assert "`raftkv member replace 2 NEW`" in refused.message
    assert await node.reason(start=Start(6, 60)) is None


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_log_that_ends_before_what_was_acknowledged_is_an_older_copy(
    node: Register, restarted: bool
) -> None:
    await node.admit()
    node.register.acknowledged({2: Acknowledged(90, EARLIER)})
    assert node.register.changed
    await node.register.write()
    assert not node.register.changed
    if restarted:
        node.restart()
    for start in (Start(5, 50), Start(6, 60)):
        assert await node.reason(start=start, last_log_index=89) is Refusal.OLDER_COPY
    assert await node.reason(start=Start(6, 60), last_log_index=90) is None


async def test_a_recorded_acknowledgement_never_decreases(node: Register) -> None:
    await node.admit()
    node.register.acknowledged({2: Acknowledged(90, EARLIER), 3: Acknowledged(80, EARLIER)})
    node.register.acknowledged({2: Acknowledged(70, EARLIER)})
    await node.register.write()
    assert {id: note.index for id, note in node.notes.items()} == {2: 90, 3: 80}
    node.register.acknowledged({2: Acknowledged(90, EARLIER)})
    assert not node.register.changed


async def test_a_call_older_than_acknowledgements_of_its_own_start_is_no_older_copy(
    node: Register,
) -> None:
    """Its words may take longer than what the leader passes on."""
    node.register.acknowledged({2: Acknowledged(150, CALLER.start.id)})
    assert await node.reason(last_log_index=149) is None
    assert await node.reason(start=Start(5, 51), last_log_index=149) is Refusal.OLDER_COPY
    assert await node.reason(start=Start(6, 60), last_log_index=149) is Refusal.OLDER_COPY


async def test_unwritten_records_count_already(node: Register) -> None:
    await node.admit()
    node.register.acknowledged({2: Acknowledged(150, EARLIER)})
    assert await node.reason(last_log_index=149) is Refusal.OLDER_COPY


@pytest.mark.parametrize("restarted", [False, True])
async def test_another_process_of_the_same_start_is_a_clone(
    node: Register, restarted: bool
) -> None:
    await node.admit()
    if restarted:
        node.restart()
    refused = await node.admit(start=Start(5, 51))
    assert refused is not None
    assert refused.reason is Refusal.CLONE
    assert "copies of the disk of node 2" in refused.message
    assert await node.reason() is None


async def test_of_two_clones_that_call_at_once_one_is_admitted(node: Register) -> None:
    """The trace: both call while the first one's start is being written."""
    node.held = asyncio.Event()
    calls = [asyncio.create_task(node.reason(start=Start(5, id))) for id in (50, 51)]
    await node.writing.wait()
    node.held.set()
    assert sorted(map(str, await asyncio.gather(*calls))) == ["CLONE", "None"]


async def test_a_cancelled_call_does_not_count_as_a_written_start(
    node: Register,
) -> None:
    """The trace: the disk is slow, the caller gives up and calls again."""
    node.held = asyncio.Event()
    first = asyncio.create_task(node.reason())
    await node.writing.wait()
    first.cancel()
    await asyncio.wait({first})
    again = asyncio.create_task(node.reason())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not again.done()
    assert node.notes == {}
    node.held.set()
    assert await again is None
    assert node.notes[2].start == Start(5, 50)


async def test_a_caller_is_refused_if_a_later_start_called_during_its_write(node: Register) -> None:
    node.held = asyncio.Event()
    older = asyncio.create_task(node.reason(start=Start(5, 50)))
    await node.writing.wait()
    newer = asyncio.create_task(node.reason(start=Start(6, 60)))
    await asyncio.sleep(0)
    node.held.set()
    assert await older is Refusal.OLDER_COPY
    assert await newer is None
    assert node.notes[2].start == Start(6, 60)


async def test_a_member_starts_from_no_other_disk(node: Register) -> None:
    refused = await node.admit(disk_id=99)
    assert refused is not None
    assert refused.reason is Refusal.OTHER_DISK
    assert f"{2:016x}" in refused.message
    assert f"{99:016x}" in refused.message
    assert node.notes == {}


async def test_a_member_without_a_recorded_disk_may_start_from_any(node: Register) -> None:
    node.membership = replace(MEMBERS, disk_ids={})
    assert await node.admit(disk_id=99) is None


async def test_a_removed_node_is_refused_before_all_else(node: Register) -> None:
    node.membership = replace(members_of(1, 3), removed=frozenset({2}))
    assert await node.reason(start=Start(0, 0), disk_id=99) is Refusal.REMOVED
    assert node.notes == {}


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        (VersionRange(0, 1), None),
        (VersionRange(1, 9), None),
        (VersionRange(0, 0), Refusal.WRONG_VERSION),
        (VersionRange(2, 9), Refusal.WRONG_VERSION),
        (VersionRange(1, 0), Refusal.WRONG_VERSION),
    ],
)
async def test_a_peer_that_can_not_take_part_in_the_cluster_s_version_is_refused(
    node: Register, versions: VersionRange, reason: Refusal | None
) -> None:
    assert await node.reason(versions=versions) is reason


async def test_a_stranger_is_admitted_and_not_recorded(node: Register) -> None:
    """It may be the leader of a later membership."""
    assert await node.admit(node_id=9, disk_id=9) is None
    assert node.register.callers.keys() == {9}
    assert node.notes == {}
    assert node.waits == 0


async def test_strangers_are_bounded_and_displace_no_member(node: Register) -> None:
    await node.admit()
    for stranger in range(10, 10 + 2 * CALLERS_MAX):
        await node.admit(node_id=stranger)
    assert len(node.register.callers) == CALLERS_MAX
    assert node.register.callers[2] == CALLER
    assert 10 not in node.register.callers


async def test_a_disk_that_takes_no_record_admits_no_peer(node: Register) -> None:
    await node.log.close()
    with pytest.raises(StorageError):
        await node.admit()
    assert node.register.callers == {}


# ---- of those that were admitted ------------------------------------------------------


async def test_an_admitted_peer_may_send_until_it_is_removed(node: Register) -> None:
    await node.admit()
    assert node.register.refusal_of_admitted(CALLER, MEMBERS) is None
    removed = Membership(voters=frozenset({1}), removed=frozenset({2}))
    refused = node.register.refusal_of_admitted(CALLER, removed)
    assert refused is not None
    assert refused.reason is Refusal.REMOVED


async def test_an_admitted_caller_is_refused_after_a_later_start(node: Register) -> None:
    await node.admit()
    later = replace(CALLER, start=Start(6, 60))
    await node.admit(later)
    refused = node.register.refusal_of_admitted(CALLER, MEMBERS)
    assert refused is not None
    assert refused.reason is Refusal.CLONE
    assert node.register.refusal_of_admitted(later, MEMBERS) is None


async def test_a_stranger_whose_call_was_dropped_is_still_admitted(node: Register) -> None:
    stranger = replace(CALLER, node_id=9)
    await node.admit(stranger)
    for other in range(10, 10 + CALLERS_MAX):
        await node.admit(node_id=other)
    assert node.register.refusal_of_admitted(stranger, MEMBERS) is None


async def test_this_node_s_own_start_is_kept_with_the_records(node: Register) -> None:
    await node.log.write_starts(Starts(Start(7, 70)))
    node.restart()
    await node.admit()
    assert node.log.recover().starts.own == Start(7, 70)
