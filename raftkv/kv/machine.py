"""The replicated state machine: applies committed entries to a store, and reads the result.

It is deterministic: the same entries give the same bytes in the store and the same results on every
node, however they are split into runs and wherever the machine is rebuilt from its store. Cluster
time is what the entries are stamped with. Entries are applied in bounded steps; a read between two
steps sees the state before the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from google.protobuf.message import DecodeError

from raftkv.errors import (
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    RaftkvError,
    Refused,
    SessionExpired,
    check,
)
from raftkv.kv import locks
from raftkv.kv.budget import Budget
from raftkv.kv.changes import ChangeSubscriber
from raftkv.kv.commands import CommandRunner
from raftkv.kv.idempotency import is_known
from raftkv.kv.limits import (
    COMPACTION_CHANGES_PER_ENTRY,
    EARLY_BYTES_MAX,
    IDEMPOTENCY_REMOVALS_PER_ENTRY,
    RESULT_BYTES_MAX,
    SEQUENCE_MAX,
    SESSION_RESULTS_MAX,
    STAMP_JUMP_MS_MAX,
    Limits,
)
from raftkv.kv.meta import MEMBERSHIP_KEY, META_0_KEY, META_KEY, read_meta
from raftkv.kv.overlay import Overlay, StateReader
from raftkv.kv.pace import STEP_UNITS, Pace, Steps, run
from raftkv.kv.ranges import check_revision, read_range
from raftkv.kv.records import (
    fill_key_value,
    lease_key,
    session_key,
    split_lease,
    unpack_lease,
)
from raftkv.kv.rights import withheld
from raftkv.kv.sessions import remembered_bytes
from raftkv.kv.state_hash import MARK_ENTRIES, STATE_HASH_KEY, StateHash, StateMark
from raftkv.kv.store import Family, StateStore
from raftkv.kv.transactions import read_transaction
from raftkv.raft.entry import Entry, EntryKind, Membership, decode_version
from raftkv.raft.running_hash import UNKNOWN
from raftkv.rpc.v1 import kv_pb2, log_pb2
from raftkv.versions import COMPARED
from raftkv.wire.failures import fill_failure
from raftkv.wire.membership import decode_membership
from raftkv.wire.ranges import prefix_end


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of a proposal that was applied: a `BatchResult` for the process `origin`."""

    index: int
    origin: int
    number: int
    result: bytes


class StateMachine:
    """Keys, leases, sessions and idempotency keys as of `applied_index`, on top of a store.

    Only the machine may write to its store. After an exception from `apply` the machine must be
    rebuilt from the store.
    """

    def __init__(
        self,
        store: StateStore,
        limits: Limits,
        step_units: int = STEP_UNITS,
        mark_entries: int = MARK_ENTRIES,
    ) -> None:
        """`mark_entries` is the distance of the marks of the state's running hash."""
        self._store = store
        self._limits = limits
        self._overlay = Overlay(store)
        self._meta = read_meta(store)
        self._written = self._meta.copy()  # as the store has it and reads see it
        payload = store.get(Family.META, MEMBERSHIP_KEY)
        self.membership = Membership() if payload is None else decode_membership(payload)
        self._state_hash = StateHash(mark_entries, store.get(Family.META, STATE_HASH_KEY))
        self.state_marks: Sequence[StateMark] = self._state_hash.marks
        """The last marks of the state's running hash that are written, oldest first."""

        self._step_units = step_units
        self._pace = Pace(step_units)
        self._runner = CommandRunner(store, self._overlay, self._meta, self._pace)
        self.rights = self._runner.rights
        """Users, roles and tokens as the store has them and reads see them."""

        self._remembered_bytes = 0  # of results in this run, not written yet
        self._applying = False
        self._change_listener: ChangeSubscriber | None = None
        self._rights_listener: Callable[[], None] | None = None

    @property
    def applied_index(self) -> int:
        return self._written.applied_index

    @property
    def applied_term(self) -> int:
        return self._written.applied_term

    @property
    def applied_hash(self) -> int:
        """The running hash of the log up to `applied_index`, 0 if it is not known."""
        return self._written.applied_hash

    @property
    def cluster_version(self) -> int:
        """The version that decides what later entries mean, until one of them raises it."""
        return self._written.cluster_version

    @property
    def revision(self) -> int:
        """Of the store; 1 when it is empty."""
        return self._written.revision

    @property
    def compacted_revision(self) -> int:
        """The oldest revision that can be read, 0 if nothing was compacted."""
        return self._written.compacted_revision

    @property
    def history_bytes_added(self) -> int:
        """Of rows that this machine has added to the history, removed ones included, uncompressed;
        about, and only since it was built from its store.
        """
        return self._runner.writer.history_bytes

    @property
    def time_ms(self) -> int:
        """Cluster time."""
        return self._written.time_ms

    @property
    def lease_count(self) -> int:
        """Leases that have not ended."""
        return len(self._runner.leases)

    @property
    def session_count(self) -> int:
        """Sessions with results or acknowledgements that are remembered."""
        return len(self._runner.sessions)

    @property
    def view(self) -> StateReader:
        """The rows of the applied state. Do not keep it: a snapshot replaces the store."""
        return self._store

    def set_change_listener(self, listener: ChangeSubscriber | None) -> None:
        """Call `listener` after each write of a run that changed a key; None ends the calls.

        A run records its changes only if there was a listener when it began. For the rest of a run
        that does not, `listener.jumped` is called.
        """
        self._change_listener = listener

    def set_rights_listener(self, listener: Callable[[], None] | None) -> None:
        """Call `listener` after each write that changed `rights`, before the changes of keys in the
        same write are reported; None ends the calls.
        """
        self._rights_listener = listener

    # ---- entries -------------------------------------------------------------------

    def apply(self, entries: Sequence[Entry], log_hash: int = UNKNOWN) -> list[Applied]:
        """`apply_in_steps` without a pause; `log_hash` is that of the last entry."""
        return run(self.apply_in_steps(entries, lambda _: log_hash))

    def apply_in_steps(
        self, entries: Sequence[Entry], hash_at: Callable[[int], int]
    ) -> Steps[list[Applied]]:
        """Apply a run of entries, and write its changes to the store together with `applied_index`.

        A large run is written in several atomic writes, each of whole entries. `hash_at` returns
        the running hash of the log up to an index. Returns one `Applied` per proposal, in order.
        May raise `StorageError`. The steps of one run must end before the next run begins.

        Old versions and changes, if they are many bytes, are written before the rest of the run. No
        read sees them, because they belong to later revisions. After a crash in between the same
        rows are written again.
        """
        steps = self._apply(entries, hash_at)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return cast("list[Applied]", done.value)
            self._write_early_rows()
            yield

    def _write_early_rows(self) -> bool:
        """Write some of the run's old versions and changes early, if they are many bytes."""
        rows = self._runner.writer.take_early_rows()
        if rows is None:
            return False
        self._store.write(rows)
        return True

    def _apply(
        self, entries: Sequence[Entry], hash_at: Callable[[int], int]
    ) -> Steps[list[Applied]]:
        check(not self._applying, "runs are applied one after the other")
        self._applying = True
        self._runner.writer.record_changes(self._change_listener is not None)
        meta = self._meta
        applied: list[Applied] = []
        membership = self.membership
        for entry in entries:
            check(
                entry.index == meta.applied_index + 1,
                "entries are applied one after the other",
                applied_index=meta.applied_index,
                index=entry.index,
            )
            check(
                entry.term >= meta.applied_term,
                "the term of applied entries never goes back",
                applied_term=meta.applied_term,
                term=entry.term,
            )
            if entry.kind is EntryKind.COMMANDS:
                yield from self._apply_stamped_batch(entry, applied)
            elif entry.kind is EntryKind.MEMBERSHIP:
                membership = decode_membership(entry.payload)
                self._overlay.changes[Family.META][MEMBERSHIP_KEY] = entry.payload
                self._overlay.effects.append(entry.payload)
            elif entry.kind is EntryKind.VERSION:
                self._raise_version(decode_version(entry.payload))
            if not self._runner.bounded:
                self._runner.idempotency_keys.remove_expired(IDEMPOTENCY_REMOVALS_PER_ENTRY)
                self._runner.compaction.step(COMPACTION_CHANGES_PER_ENTRY)
            meta.applied_index = entry.index
            meta.applied_term = entry.term
            self._state_hash.add(meta, self._overlay.effects)
            self._overlay.effects.clear()
            if entry is entries[-1] or self._remembered_bytes >= EARLY_BYTES_MAX:
                meta.applied_hash = hash_at(entry.index)
                self._overlay.changes[Family.META][META_KEY] = meta.encode()
                if meta.cluster_version >= COMPARED:
                    self._overlay.changes[Family.META][STATE_HASH_KEY] = self._state_hash.encode()
                revision_before, rights_before = self.revision, self.rights
                yield from self._write()
                self.membership = membership
                self._applying = entry is not entries[-1]
                if self.rights is not rights_before and self._rights_listener is not None:
                    self._rights_listener()
                if self.revision != revision_before:
                    self._report_changes()
        self._applying = False
        return applied

    def _write(self) -> Steps[None]:
        overlay = self._overlay
        while self._write_early_rows():
            yield
        self._runner.writer.early_bytes = self._remembered_bytes = 0
        yield from self._store.write_in_steps(overlay.for_store(), overlay.removed)
        overlay.clear()
        self._written = self._meta.copy()
        self.state_marks = self._state_hash.marks
        self.rights = self._runner.rights

    def _raise_version(self, version: int) -> None:
        # Two leaders may have proposed it, one after the other.
        self._meta.cluster_version = max(self._meta.cluster_version, version)
        self._overlay.changes[Family.META][META_0_KEY] = None

    def _report_changes(self) -> None:
        changes, listener = self._runner.writer.take_changes(), self._change_listener
        if listener is None:
            return
        if changes is None:
            listener.jumped()
        else:
            listener.changed(changes)

    def _apply_stamped_batch(self, entry: Entry, applied: list[Applied]) -> Steps[None]:
        stamped = log_pb2.StampedBatch.FromString(entry.payload)
        # A new leader may continue from an older stamp than the last one applied.
        now_ms = self._meta.time_ms
        stamp_ms = min(stamped.time_ms, now_ms + STAMP_JUMP_MS_MAX)
        self._meta.time_ms = max(now_ms, stamp_ms)
        if not self._runner.bounded:
            yield from self._runner.end_expired_leases()
        elif not stamped.submissions:
            yield from self._runner.run_upkeep()
        for submission in stamped.submissions:
            result = yield from self._run_submission(submission)
            applied.append(Applied(entry.index, submission.origin, submission.number, result))

    def _run_submission(self, submission: log_pb2.Submission) -> Steps[bytes]:
        try:
            batch = kv_pb2.CommandBatch.FromString(submission.commands)
        except DecodeError:
            return _refusal(InvalidRequest("the commands are not a CommandBatch"))
        self._runner.begin_submission(submission.user, submission.auth_revision)
        session, sequence = batch.session, batch.sequence
        if not session:
            result, _ = yield from self._run_batch(batch)
            return result
        sessions = self._runner.sessions
        if session not in self._runner.leases:
            return _refusal(
                SessionExpired(
                    f"session {session} has ended and its memory with it; open a new session, "
                    "and find out from the store what became of the commands sent before",
                    session=session,
                )
            )
        if not self._runner.leases.is_open(session):
            return _refusal(
                PermissionDenied(
                    f"session {session} belongs to another user; open a session of your own",
                    session=session,
                    missing=f"the session {session}",
                )
            )
        first = sessions.result(session, sequence)
        if first is not None:
            denied = self._runner.refusal_of_batch(batch)
            return first if denied is None else _refusal(withheld(denied))
        error = self._unusable(batch)
        if error is not None:
            return _refusal(error)
        sessions.acknowledge(session, batch.acknowledged)
        result, size_bytes = yield from self._run_batch(batch)
        # The batch may have ended its own session. It may also have granted a lease of the same id
        # again: then the new session must know the batch, or a retry would run it twice.
        if session in self._runner.leases:
            sessions.remember(session, sequence, result, size_bytes)
            self._remembered_bytes += len(result)
        return result

    def _run_batch(self, batch: kv_pb2.CommandBatch) -> Steps[tuple[bytes, int | None]]:
        """The result, and its counted size if it is kept for the session."""
        bounded = self._runner.bounded
        answer = kv_pb2.BatchResult()
        budget = Budget(RESULT_BYTES_MAX, self._pace, bounded=bounded)
        yield from self._runner.run_batch(batch, answer, budget)
        size_bytes = None
        if bounded and batch.session:
            read_bytes = budget.bytes_max - budget.bytes_left
            size_bytes = remembered_bytes(answer.results, read_bytes)
        # These bytes are only returned, now and to a retry. They decide nothing: nodes with
        # different protobuf libraries may have different bytes of the same meaning.
        return answer.SerializeToString(deterministic=True), size_bytes

    def _unusable(self, batch: kv_pb2.CommandBatch) -> RaftkvError | None:
        """The reason for which this batch of a living session can't be run, None if it can."""
        sessions, session, sequence = self._runner.sessions, batch.session, batch.sequence
        if batch.acknowledged >= sequence:
            return InvalidRequest(
                f"sequence {sequence} is not above acknowledged {batch.acknowledged}; number "
                "the batches of a session from 1 and acknowledge only what was answered"
            )
        acknowledged = sessions.acknowledged(session)
        if sequence <= acknowledged:
            return OutcomeUnknown(
                f"the result of sequence {sequence} is forgotten: results up to {acknowledged} "
                "were acknowledged; the batch was not run again",
                acknowledged=acknowledged,
            )
        if sessions.is_full(session, batch.acknowledged):
            return Overloaded(
                f"session {session} has {SESSION_RESULTS_MAX} results that were not "
                "acknowledged; acknowledge those that were received",
                retry_after_s=1.0,
            )
        if not self._runner.bounded:
            return None
        if sequence > SEQUENCE_MAX:
            return InvalidRequest(f"sequence {sequence} is over the limit of {SEQUENCE_MAX}")
        try:
            sessions.require_room(session, batch.acknowledged)
        except Overloaded as full:
            return full
        return None

    # ---- reads ---------------------------------------------------------------------

    def get(self, key: bytes, result: kv_pb2.Result) -> None:
        """Fill `result` with what a `Range` of this one key at the latest revision returns."""
        record = self._store.get(Family.CURRENT, key)
        result.revision = self._written.revision
        answer = result.range
        if record is None:
            answer.SetInParent()
        else:
            answer.count = 1
            fill_key_value(answer.kvs.add(), key, record)

    def read(self, request: kv_pb2.Range) -> Steps[kv_pb2.Result]:
        """Read a range in bounded steps. Returns the result.

        The read sees the store as of the first step, whatever is applied between the steps. A
        request that fails returns a `Result` with a failure.
        """
        result = kv_pb2.Result(revision=self._written.revision)
        try:
            check_revision(
                request.revision, self._written.revision, self._written.compacted_revision
            )
            result.range.SetInParent()
            budget = Budget(self._limits.reply_bytes_max, Pace(self._step_units))
            yield from read_range(self._store, request, result.range, budget, result.revision)
        except (InvalidRequest, Refused) as error:
            fill_failure(result.failure, error)
        return result

    def read_transaction(self, request: kv_pb2.Transaction) -> Steps[kv_pb2.Result]:
        """As `read`, for a transaction that has passed `check_read_transaction`."""
        result = kv_pb2.Result(revision=self._written.revision)
        try:
            budget = Budget(self._limits.reply_bytes_max, Pace(self._step_units))
            compacted_revision = self._written.compacted_revision
            view = self._store.frozen()
            yield from read_transaction(view, request, result, budget, compacted_revision)
        except (InvalidRequest, Refused) as error:
            fill_failure(result.failure, error)
        return result

    # ---- what has run ----------------------------------------------------------------

    def has_result(self, session: int, sequence: int, user: int) -> bool:
        """Whether the result of a batch is remembered, in a session that this user may use."""
        return self._store.get(
            Family.SESSIONS, session_key(session, sequence)
        ) is not None and self.lease_owner(session) in (0, user)

    def knows_idempotency_key(self, command: kv_pb2.Command, user: int) -> bool:
        """Whether a command of this user has run under the command's idempotency key."""
        return is_known(self._store, command, user, self._written.time_ms)

    # ---- leases --------------------------------------------------------------------

    def next_deadline_ms(self) -> int | None:
        """The cluster time at which the next lease expires."""
        return self._runner.leases.next_deadline_ms()

    def upkeep_is_due(self, time_ms: int) -> bool:
        """Whether an upkeep entry, stamped with this cluster time, would remove anything."""
        return self._runner.bounded and self._runner.upkeep_is_due(time_ms)

    def lease_time_to_live(self, lease: int) -> tuple[int, int] | None:
        """(left_ms, granted_ttl_ms), None if there is no such lease."""
        row = self._store.get(Family.LEASES, lease_key(lease))
        if row is None:
            return None
        ttl_ms, deadline_ms, _ = unpack_lease(row)
        left_ms = deadline_ms - self._written.time_ms
        return (left_ms, ttl_ms) if left_ms > 0 else None

    def lease_owner(self, lease: int) -> int:
        """The id of the user to whom a lease was granted, 0 if it has none or does not exist."""
        row = self._store.get(Family.LEASES, lease_key(lease))
        return 0 if row is None else unpack_lease(row)[2]

    def lease_keys(self, lease: int, after: bytes = b"") -> Iterator[bytes]:
        """The current keys of the lease that are greater than `after`, in order."""
        prefix = lease_key(lease)
        start = prefix + after + b"\0" if after else prefix
        rows = self._store.scan(Family.LEASE_KEYS, start, prefix_end(prefix))
        return (row[len(prefix) :] for row, _ in rows)

    def leases(self, after: int = 0) -> Iterator[int]:
        """The ids greater than `after` of the leases that are living now, in order."""
        return (lease for lease, _ in self.owned_leases(after))

    def owned_leases(self, after: int = 0) -> Iterator[tuple[int, int]]:
        """As `leases`, each with the id of its owner, 0 if it has none."""
        time_ms = self._written.time_ms
        for key, row in self._store.scan(Family.LEASES, lease_key(after) + b"\0", None):
            _, deadline_ms, owner = unpack_lease(row)
            if deadline_ms > time_ms:
                yield split_lease(key), owner

    # ---- locks ---------------------------------------------------------------------

    def lock_holder(self, name: bytes) -> locks.LockEntry | None:
        """The entry that holds the lock. None also if a whole step of other keys precedes it."""
        steps = locks.holder(self._store, name, self._queue_heads, Pace(self._step_units))
        try:
            next(steps)
        except StopIteration as done:
            return cast("locks.LockEntry | None", done.value)
        return None

    def lock_entries(self, name: bytes, after_token: int = 0) -> Iterator[locks.LockEntry]:
        """The entries of the lock's queue with tokens above `after_token`, in order."""
        return (row for row in self.lock_rows(name, after_token) if row is not None)

    def lock_rows(self, name: bytes, after_token: int = 0) -> Iterator[locks.LockEntry | None]:
        """As `lock_entries`, with None for each key between them that is no entry."""
        from_token = max(self._queue_heads.first_token(name), after_token + 1)
        return locks.rows(self._store, name, from_token)

    @property
    def _queue_heads(self) -> locks.QueueHeads:
        """The cache of queue heads; an empty one during a run, whose changes no read may see."""
        return locks.QueueHeads() if self._applying else self._runner.queue_heads


def _refusal(error: RaftkvError) -> bytes:
    answer = kv_pb2.BatchResult()
    fill_failure(answer.failure, error)
    return answer.SerializeToString(deterministic=True)
