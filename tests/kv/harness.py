"""A state machine on a memory store, driven one command at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from raftkv.kv.changes import Change
from raftkv.kv.limits import Limits
from raftkv.kv.machine import Applied, StateMachine
from raftkv.kv.pace import STEP_UNITS, run
from raftkv.kv.store import Family
from raftkv.raft.entry import Entry, EntryKind, encode_version
from raftkv.raft.running_hash import UNKNOWN
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.rpc.v1 import log_pb2
from raftkv.storage.memory_state import MemoryStateStore

ORIGIN = 77
EVERYTHING = b"\x00"


def no_hash(_: int) -> int:
    """Of a log that has none."""
    return UNKNOWN


def put(key: bytes, value: bytes = b"", **options: object) -> pb.Command:
    return pb.Command(put=pb.Put(key=key, value=value, **options))


def delete(key: bytes, range_end: bytes = b"", **options: object) -> pb.Command:
    return pb.Command(delete_range=pb.DeleteRange(key=key, range_end=range_end, **options))


def compact(revision: int) -> pb.Command:
    return pb.Command(compact=pb.Compact(revision=revision))


def grant(ttl_ms: int, lease: int = 0) -> pb.Command:
    return pb.Command(lease_grant=pb.LeaseGrant(ttl_ms=ttl_ms, lease=lease))


def renew(lease: int) -> pb.Command:
    return pb.Command(lease_renew=pb.LeaseRenew(lease=lease))


def revoke(lease: int) -> pb.Command:
    return pb.Command(lease_revoke=pb.LeaseRevoke(lease=lease))


def operation(command: pb.Command | pb.Range | pb.Transaction) -> pb.Operation:
    match command:
        case pb.Range():
            return pb.Operation(range=command)
        case pb.Transaction():
            return pb.Operation(transaction=command)
    name = command.WhichOneof("command")
    return pb.Operation(**{name: getattr(command, name)})


def transaction(
    compare: Sequence[pb.Compare] = (),
    success: Sequence[pb.Command | pb.Range | pb.Transaction] = (),
    failure: Sequence[pb.Command | pb.Range | pb.Transaction] = (),
) -> pb.Transaction:
    return pb.Transaction(
        compare=compare,
        success=[operation(each) for each in success],
        failure=[operation(each) for each in failure],
    )


def batch(*commands: pb.Command, session: int = 0, sequence: int = 0, acknowledged: int = 0):
    return pb.CommandBatch(
        session=session, sequence=sequence, acknowledged=acknowledged, commands=commands
    )


class Authored(NamedTuple):
    """A batch of the user of this id, whose rights were checked at this revision."""

    commands: pb.CommandBatch
    user: int
    auth_revision: int = -1
    """-1: of rights that are not the present ones."""


def entry(index: int, time_ms: int, *batches: pb.CommandBatch | Authored, term: int = 1) -> Entry:
    stamped = log_pb2.StampedBatch(time_ms=time_ms)
    for number, each in enumerate(batches):
        sent = each if isinstance(each, Authored) else Authored(each, 0, 0)
        stamped.submissions.add(
            origin=ORIGIN,
            number=number,
            commands=sent.commands.SerializeToString(deterministic=True),
            user=sent.user,
            auth_revision=sent.auth_revision,
        )
    return Entry(term, index, EntryKind.COMMANDS, stamped.SerializeToString())


def dump(store: MemoryStateStore) -> dict[str, list[tuple[bytes, bytes]]]:
    """Every row of the store."""
    return {family.value: list(store.scan(family, b"", None)) for family in Family}


def rows(store: MemoryStateStore, family: Family) -> list[tuple[bytes, bytes]]:
    return list(store.scan(family, b"", None))


class Listener:
    """Passes the changes that a machine reports to `changed`, and counts the jumps."""

    def __init__(self, changed: Callable[[Sequence[Change]], object]) -> None:
        self.changed = changed
        self.jumps = 0

    def jumped(self) -> None:
        self.jumps += 1


class Driver:
    """Applies one entry per call, at `time_ms` of cluster time."""

    def __init__(self, limits: Limits | None = None, version: int = 0) -> None:
        self.limits = limits or Limits()
        self.store = MemoryStateStore()
        self.machine = StateMachine(self.store, self.limits)
        self.time_ms = 0
        if version:
            self.apply(Entry(1, 1, EntryKind.VERSION, encode_version(version)))

    def apply(self, each: Entry) -> list[Applied]:
        return self.machine.apply([each])

    def restart(self, step_units: int = STEP_UNITS) -> None:
        """Continue with a machine that is rebuilt from the store."""
        self.machine = StateMachine(self.store, self.limits, step_units)

    def send(self, commands: pb.CommandBatch | Authored) -> pb.BatchResult:
        each = entry(self.machine.applied_index + 1, self.time_ms, commands)
        (applied,) = self.apply(each)
        return pb.BatchResult.FromString(applied.result)

    def do(self, command: pb.Command) -> pb.Result:
        (result,) = self.send(batch(command)).results
        return result

    def transact(self, request: pb.Transaction) -> pb.Result:
        return self.do(pb.Command(transaction=request))

    def swap(self, **request: object) -> pb.Result:
        return self.do(pb.Command(compare_and_swap=pb.CompareAndSwap(**request)))

    def grant(self, ttl_ms: int, lease: int = 0) -> int:
        return self.do(grant(ttl_ms, lease)).lease.lease

    def pass_time(self, time_ms: int) -> None:
        """A bare clock entry."""
        self.time_ms = time_ms
        self.apply(entry(self.machine.applied_index + 1, time_ms))

    def run_upkeep(self) -> int:
        """Apply upkeep entries until none is due. Returns how many."""
        entries = 0
        while self.machine.upkeep_is_due(self.time_ms):
            self.pass_time(self.time_ms)
            entries += 1
        return entries

    def idle(self, entries: int) -> None:
        """Entries that carry nothing."""
        for _ in range(entries):
            self.apply(Entry(1, self.machine.applied_index + 1, EntryKind.NOOP))

    def range(self, key: bytes, range_end: bytes = b"", **options: object) -> pb.Result:
        return run(self.machine.read(pb.Range(key=key, range_end=range_end, **options)))

    def get(self, key: bytes, revision: int = 0) -> pb.KeyValue | None:
        result = self.range(key, revision=revision)
        assert not result.HasField("failure"), result.failure
        return result.range.kvs[0] if result.range.kvs else None

    def value(self, key: bytes, revision: int = 0) -> bytes | None:
        found = self.get(key, revision)
        return None if found is None else found.value
