"""Whatever is sent: the machine does what the model says, and everywhere the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.kv import compaction, idempotency
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.ranges import run
from raftkv.raft.entry import Entry, EntryKind
from raftkv.rpc import kv_pb2 as pb
from raftkv.storage.memory_state import MemoryStateStore

from .harness import EVERYTHING, Driver, batch, dump, entry
from .model import Model
from .strategies import COMMANDS, LEASES, RANGES


@pytest.fixture(autouse=True, scope="module")
def _small_steps() -> Iterator[None]:
    """Old rows go two at a time, so that most examples meet a half-done removal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "COMPACTION_CHANGES_PER_ENTRY", 2)
        patch.setattr(idempotency, "IDEMPOTENCY_REMOVALS_PER_ENTRY", 1)
        yield


def bare(result: pb.Result) -> pb.Result:
    """Failures by their reason alone."""
    for each in result.transaction.responses if result.HasField("transaction") else ():
        bare(each)
    if result.HasField("failure"):
        result.failure.CopyFrom(pb.Failure(reason=result.failure.reason))
    return result


@settings(max_examples=150)
@given(
    steps=st.lists(st.tuples(st.integers(0, 800), COMMANDS), max_size=25),
    ranges=st.lists(RANGES, max_size=6),
    restart=st.booleans(),
)
def test_every_result_and_every_readable_revision_is_as_the_model_says(
    steps: list[tuple[int, pb.Command]], ranges: list[pb.Range], restart: bool
) -> None:
    db, model = Driver(), Model()
    for elapsed_ms, command in steps:
        db.time_ms += elapsed_ms
        model.pass_time(db.time_ms)
        assert bare(db.do(command)) == model.run(command)
        assert db.machine.revision == model.revision
        if restart:
            db.restart()
    assert sorted(db.machine.leases()) == sorted(model.leases)
    for lease in model.leases:
        attached = [
            key for key, each in model.states[model.revision].items() if each.lease == lease
        ]
        assert db.machine.lease_keys(lease) == sorted(attached)
    model.begin()
    for revision in range(max(model.compacted, 1), model.revision + 1):
        whole = pb.Range(key=EVERYTHING, range_end=EVERYTHING, revision=revision)
        assert run(db.machine.read(whole)) == model.range(whole)
        for key in model.states[revision]:
            assert db.value(key, revision) == model.states[revision][key].value
    for request in ranges:
        readable = request.revision <= 0 or (model.compacted <= request.revision <= model.revision)
        found = run(db.machine.read(request))
        assert found.HasField("failure") is not readable
        if readable:
            assert found == model.range(request)


NAMED = st.builds(
    lambda command, name, ttl_ms: pb.Command.FromString(
        command.SerializeToString()
        + pb.Command(idempotency_key=name, idempotency_ttl_ms=ttl_ms).SerializeToString()
    ),
    COMMANDS,
    st.sampled_from([b"i", b"j"]),
    st.integers(1, 2_000),
)
BATCHES = st.builds(
    lambda commands, session, sequence, behind: batch(
        *commands, session=session, sequence=sequence, acknowledged=max(sequence - behind, 0)
    ),
    st.lists(COMMANDS | NAMED, max_size=4),
    st.just(0) | LEASES,
    st.integers(1, 6),
    st.integers(1, 6),
)
ENTRIES = st.lists(
    st.none() | st.tuples(st.integers(0, 4_000), st.lists(BATCHES, max_size=3)), max_size=12
)
GRANTS = [pb.Command(lease_grant=pb.LeaseGrant(lease=lease, ttl_ms=2_500)) for lease in (1, 2, 3)]


@settings(max_examples=150)
@given(plan=ENTRIES, cuts=st.lists(st.tuples(st.integers(0, 13), st.booleans()), max_size=6))
def test_the_same_entries_give_the_same_bytes_however_they_are_split_and_restarted(
    plan: list[tuple[int, list[pb.CommandBatch]] | None], cuts: list[tuple[int, bool]]
) -> None:
    entries = [entry(1, 0, batch(*GRANTS))]
    for index, each in enumerate(plan, 2):
        if each is None:
            entries.append(Entry(1, index, EntryKind.NOOP))
        else:
            entries.append(entry(index, each[0], *each[1]))

    whole_store, split_store = MemoryStateStore(), MemoryStateStore()
    whole = StateMachine(whole_store, Limits()).apply(entries)

    machine, applied, done = StateMachine(split_store, Limits()), [], 0
    for cut, restart in [*sorted(cuts), (len(entries), False)]:
        cut = max(min(cut, len(entries)), done)
        applied += machine.apply(entries[done:cut])
        done = cut
        if restart:
            machine = StateMachine(split_store, Limits())

    assert applied == whole
    assert dump(split_store) == dump(whole_store)
    rebuilt = StateMachine(split_store, Limits())
    assert rebuilt.leases() == machine.leases()
    assert rebuilt.next_deadline_ms() == machine.next_deadline_ms()
