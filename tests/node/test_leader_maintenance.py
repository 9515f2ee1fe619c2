"""What a leader changes by itself: the version, and where and on which disks its members are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftkv.errors import ConfigurationError
from raftkv.node.config import require_version
from raftkv.node.leader_maintenance import next_version, updated_membership
from raftkv.peer.handshake import Caller
from raftkv.raft.entry import Address
from raftkv.versions import VersionRange
from tests.node.wire import address_of, members_of

MEMBERS = members_of(1, 2, 3)
OLD = replace(MEMBERS, disk_ids={})  # as raftkv 0.1.0 has left it


def caller(node_id: int, **changed: object) -> Caller:
    given = Caller(node_id, address_of(node_id), disk_id=node_id, versions=VersionRange(0, 1))
    return replace(given, **changed)


def callers(*given: Caller) -> dict[int, Caller]:
    return {each.node_id: each for each in given}


ALL = callers(caller(1), caller(2), caller(3))


def test_the_version_is_raised_once_all_members_have_reported_it() -> None:
    assert next_version(0, OLD, ALL) == 1
    assert next_version(0, OLD, callers(caller(1), caller(2))) is None
    too_old = callers(caller(1), caller(2), caller(3, versions=VersionRange(0, 0)))
    assert next_version(0, OLD, too_old) is None


def test_the_version_is_raised_by_one_and_not_beyond_what_is_known() -> None:
    able = callers(*(caller(id, versions=VersionRange(0, 3)) for id in (1, 2, 3)))
    assert [next_version(now, OLD, able) for now in (0, 1, 2, 3)] == [1, 2, 3, None]
    assert next_version(1, MEMBERS, ALL) is None


def test_the_version_waits_for_started_learners_only() -> None:
    with_learner = replace(
        MEMBERS,
        learners=frozenset({4}),
        addresses={**MEMBERS.addresses, 4: address_of(4)},
    )
    assert next_version(0, with_learner, ALL) == 1
    started = replace(with_learner, disk_ids={**MEMBERS.disk_ids, 4: 4})
    assert next_version(0, started, ALL) is None
    assert next_version(0, started, {**ALL, **callers(caller(4))}) == 1


def test_the_refusal_of_a_stranger_has_no_effect() -> None:
    stranger = callers(caller(9, versions=VersionRange(0, 0), disk_id=99))
    assert next_version(0, OLD, {**ALL, **stranger}) == 1
    assert updated_membership(MEMBERS, {**ALL, **stranger}) is None


def test_a_disk_is_recorded_once() -> None:
    updated = updated_membership(OLD, callers(caller(1), caller(3)))
    assert updated is not None
    assert updated.disk_ids == {1: 1, 3: 3}
    assert updated_membership(MEMBERS, callers(caller(2, disk_id=99))) is None


def test_a_member_without_a_disk_id_gets_none() -> None:
    assert updated_membership(OLD, callers(caller(1, disk_id=0))) is None


def test_a_reported_new_address_updates_the_membership() -> None:
    moved = Address("elsewhere:1", "elsewhere:2")
    updated = updated_membership(MEMBERS, {**ALL, **callers(caller(2, address=moved))})
    assert updated is not None
    assert updated.addresses == {**MEMBERS.addresses, 2: moved}
    assert (updated.voters, updated.disk_ids) == (MEMBERS.voters, MEMBERS.disk_ids)
    assert updated_membership(updated, callers(caller(2, address=moved))) is None


def test_a_member_that_reports_no_address_keeps_the_old_one() -> None:
    for silent in (Address("", "elsewhere:2"), Address("elsewhere:1", "")):
        assert updated_membership(MEMBERS, callers(caller(2, address=silent))) is None


def test_a_version_that_this_program_does_not_know_stops_it() -> None:
    require_version(1, VersionRange(0, 1))
    for version in (2, 0):
        with pytest.raises(ConfigurationError, match=f"at version {version}, .* 1 to 1"):
            require_version(version, VersionRange(1, 1))
