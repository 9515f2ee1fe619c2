"""Strategies for what both sides of the wire know."""

from __future__ import annotations

from hypothesis import strategies as st

from raftkv.raft.entry import Address, Membership

node_ids = st.integers(1, 2**63 - 1)
node_sets = st.frozensets(node_ids, max_size=4)
some_text = st.text(min_size=1)
addresses = st.builds(Address, some_text, some_text)


@st.composite
def memberships(draw: st.DrawFn) -> Membership:
    voters = draw(st.frozensets(node_ids, min_size=1, max_size=4))
    outgoing, learners = draw(node_sets), draw(node_sets)
    members = voters | outgoing | learners
    known = {each: draw(addresses) for each in sorted(members)}
    disks = draw(st.dictionaries(st.sampled_from(sorted(members)), st.integers(1, 2**64 - 1)))
    return Membership(voters, outgoing, learners, known, draw(node_sets) - members, disks)
