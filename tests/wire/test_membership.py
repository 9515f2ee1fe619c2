"""A configuration as the payload of an entry."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from raftkv.errors import InvalidRequest
from raftkv.raft.entry import Address, Membership
from raftkv.wire.membership import decode_membership, encode_membership
from tests.wire.strategies import memberships

# How long an example takes depends on how busy the machine is.
any_speed = settings(suppress_health_check=[HealthCheck.too_slow])


@any_speed
@given(memberships())
def test_a_membership_survives_its_payload(membership: Membership) -> None:
    assert decode_membership(encode_membership(membership)) == membership


def test_equal_memberships_have_equal_payloads() -> None:
    addresses = {node: Address(f"h:{node}", f"c:{node}") for node in (1, 2, 9)}
    backwards = dict(reversed(addresses.items()))
    one = Membership(frozenset((1, 2, 9)), addresses=addresses)
    other = Membership(frozenset((9, 2, 1)), addresses=backwards)
    assert encode_membership(one) == encode_membership(other)


def test_a_damaged_membership_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not a Membership"):
        decode_membership(b"\xff\xff\xff")
