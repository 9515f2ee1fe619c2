"""The arithmetic of rights against brute force: every key of a small world is looked at alone."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.kv.records import split_change_key
from raftkv.kv.rights import Access, Grants, KeyRanges, Need, need, needs_of_command
from raftkv.kv.store import Family
from raftkv.rpc.v1 import auth_pb2 as auth
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.versions import AUTHENTICATED
from raftkv.wire.ranges import prefix_end

from .harness import EVERYTHING, Driver, grant, rows
from .strategies import COMMANDS

ALPHABET = (b"\0", b"a", b"\xff")
BOUNDS = [b"".join(each) for n in range(3) for each in itertools.product(ALPHABET, repeat=n)]
"""Where ranges begin and end: the texts of up to two of these bytes."""
WORLD = [b"".join(each) for n in range(4) for each in itertools.product(ALPHABET, repeat=n)]
"""Between two bounds, and between a bound and the first key after it, there is one of these keys,
unless there is none at all.
"""

ENDS = st.sampled_from(BOUNDS)
INTERVALS = st.tuples(ENDS, st.none() | ENDS).filter(
    lambda each: each[1] is None or each[0] < each[1]
)
PERMISSIONS = st.builds(
    auth.Permission, access=st.integers(1, 3), key=ENDS, range_end=ENDS | st.just(EVERYTHING)
)
ROLES = st.lists(st.lists(PERMISSIONS, max_size=4), max_size=3).map(
    lambda roles: [auth.AuthRole(permissions=each) for each in roles]
)


def keys_between(start: bytes, end: bytes | None) -> set[bytes]:
    return {key for key in WORLD if start <= key and (end is None or key < end)}


def keys_on_the_wire(key: bytes, range_end: bytes) -> set[bytes]:
    """The keys that a request on this range means, by the comments of the protos."""
    if not range_end:
        return {key}
    return keys_between(key, None if range_end == b"\0" else range_end)


@settings(max_examples=300)
@given(intervals=st.lists(INTERVALS, max_size=6), asked=INTERVALS)
def test_a_union_contains_a_range_exactly_if_it_contains_each_of_its_keys(
    intervals: list[tuple[bytes, bytes | None]], asked: tuple[bytes, bytes | None]
) -> None:
    union = KeyRanges(intervals)
    keys = set().union(*(keys_between(*each) for each in intervals))
    assert {key for key in WORLD if union.contains_key(key)} == keys
    assert union.contain(*asked) is (keys_between(*asked) <= keys)


@given(intervals=st.permutations([(b"a", b"b"), (b"b", b"c"), (b"bb", b"d"), (b"x", None)]))
def test_equal_unions_of_any_order_are_equal(intervals: list[tuple[bytes, bytes | None]]) -> None:
    assert KeyRanges(intervals) == KeyRanges([(b"a", b"d"), (b"x", None)])
    assert KeyRanges(intervals) != KeyRanges([(b"a", b"d"), (b"x", b"y")])


@given(key=ENDS, range_end=ENDS | st.just(EVERYTHING))
def test_a_need_is_all_keys_of_the_request_and_never_none(key: bytes, range_end: bytes) -> None:
    found = need(Access.READ, key, range_end)
    assert keys_between(found.key, found.end) == (keys_on_the_wire(key, range_end) or {key})


@given(prefix=ENDS)
def test_the_end_of_a_prefix_is_behind_all_its_keys_and_before_all_others(prefix: bytes) -> None:
    keys = {key for key in WORLD if key.startswith(prefix)}
    assert keys_between(prefix, prefix_end(prefix)) == keys


@settings(max_examples=300)
@given(roles=ROLES, access=st.sampled_from(Access), key=ENDS, range_end=ENDS | st.just(EVERYTHING))
def test_a_need_is_allowed_exactly_if_the_roles_together_allow_it_for_each_key(
    roles: list[auth.AuthRole], access: Access, key: bytes, range_end: bytes
) -> None:
    def allowed(kind: Access) -> set[bytes]:
        permissions = [each for role in roles for each in role.permissions if each.access & kind]
        return set().union(
            *(keys_on_the_wire(each.key, each.range_end) or {each.key} for each in permissions)
        )

    asked = need(access, key, range_end)
    keys = keys_between(asked.key, asked.end)
    kinds = [kind for kind in (Access.READ, Access.WRITE) if kind & access]
    expected = all(keys <= allowed(kind) for kind in kinds)
    assert (Grants(roles).missing([asked]) is None) is expected
    assert Grants(roles, root=True).missing([asked]) is None


@settings(max_examples=300)
@given(roles=ROLES, command=COMMANDS)
def test_the_short_way_of_puts_allows_what_the_needs_allow(
    roles: list[auth.AuthRole], command: pb.Command
) -> None:
    grants = Grants(roles)
    assert grants.allow_command(command) is (grants.missing(needs_of_command(command)) is None)


def is_needed(command: pb.Command, access: Access, key: bytes) -> bool:
    return any(
        each.access & access and each.key <= key and (each.end is None or key < each.end)
        for each in needs_of_command(command)
        if isinstance(each, Need)
    )


FACTS = pb.Failure.DESCRIPTOR.fields_by_name["facts"].message_type


def shown_by(message: object) -> set[bytes]:
    """The keys of all pairs of key and value in a result."""
    if isinstance(message, pb.KeyValue):
        return {message.key}
    found: set[bytes] = set()
    for field, value in message.ListFields():  # type: ignore[attr-defined]
        if field.message_type is not None and field.message_type is not FACTS:
            for each in value if field.is_repeated else [value]:
                found |= shown_by(each)
    return found


@settings(max_examples=300)
@given(before=st.lists(COMMANDS, max_size=6), command=COMMANDS)
def test_whatever_a_command_changes_or_shows_is_among_its_needs(
    before: list[pb.Command], command: pb.Command
) -> None:
    """But for the keys that end with their lease, which belongs to the caller."""
    db = Driver(version=AUTHENTICATED)
    for lease in (1, 2, 3):
        db.do(grant(60_000, lease))
    for each in before:
        db.do(each)
    revision = db.machine.revision
    result = db.do(command)
    changed = {
        made[1:]
        for row, made in rows(db.store, Family.CHANGES)
        if split_change_key(row)[0] > revision
    }
    if not command.HasField("lease_revoke"):
        assert all(is_needed(command, Access.WRITE, key) for key in changed)
    assert all(is_needed(command, Access.READ, key) for key in shown_by(result))
