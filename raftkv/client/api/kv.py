"""The client's methods that change keys."""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.arguments import to_flag, to_int64
from raftkv.client import requests
from raftkv.client.api.reads import ReadMethods
from raftkv.client.model import results
from raftkv.client.model.op import Operation, transaction_of
from raftkv.client.model.results import (
    DeleteResult,
    PutResult,
    SwapResult,
    TransactionResult,
)
from raftkv.client.model.when import Compare
from raftkv.client.requests import (
    Fences,
    WriteOptions,
    deletion_bounds,
    to_key,
    write_options,
)
from raftkv.errors import TooManyKeys
from raftkv.rpc.v1 import kv_pb2


class KvMethods(ReadMethods):
    """Keys and values. A `str` stands for its UTF-8 bytes; keys and values that come back are
    always bytes.

    Deadlines are checked every `ClientSettings.sweep_interval_s` (25 ms): a call may end so much
    later than its timeout.
    """

    async def put(
        self,
        key: str | bytes,
        value: str | bytes = b"",
        *,
        lease: int = 0,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> PutResult:
        """Set `key` to `value`; `revision` of the result is that of the write.

        - `key`: 1 to 8,192 bytes; a `str` stands for its UTF-8 bytes.
        - `value`: at most 1 MiB.
        - `lease`: the id of a lease whose end deletes the key; 0: none.
        - `prev_kv`: return the key-value that was replaced.
        - `ignore_value`, `ignore_lease`: keep the present value, or lease, of the key.
        - `fence`: a lock, a leadership, a grant or `(name, token)`, or a list of these. The write
          is applied only while each token is that of its name's present holder.
        - `idempotency_key`, `idempotency_ttl`: a name for this write beyond the life of the client.
          A write under the same key within so many seconds (default and maximum: the server's) is
          not applied again, and returns the first result.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` or `TooLarge` for a wrong argument, with nothing changed;
        `DeadlineExceeded` if time ran out and nothing was changed, or another `Unavailable` with
        timeout 0; `OutcomeUnknown` if time ran out after the write was sent, so that it may have
        been applied; `FencedOff` or `LockLost` if a fence is not held; `IdempotencyKeyReused` if
        the key names another command; `WrongCluster`; `LeaseNotFound`; `KeyNotFound` if there is no
        value or lease to keep. Costs one entry of the replicated log, which a majority of the nodes
        writes to disk. Concurrent writes share that. Until `timeout` the client retries, and the
        write is applied once at most.
        """
        piece = requests.put_piece(
            self._settings,
            key,
            value,
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
            write_options(fence, idempotency_key, idempotency_ttl),
        )
        timeout_s = self._timeout_s if timeout is None else self._timeout(timeout)
        pipeline = self._pipeline
        return await pipeline.submit(pipeline.writes, piece, results.put_result, timeout_s)

    async def delete(
        self,
        key: str | bytes,
        *,
        prev_kv: bool = False,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> DeleteResult:
        """Delete `key`; `deleted` of the result is 0 if the key was absent.

        - `key`: 1 to 8,192 bytes; a `str` stands for its UTF-8 bytes.
        - `prev_kv`: return the key-value that was deleted.
        - `fence`: a lock, a leadership, a grant or `(name, token)`, or a list of these. The write
          is applied only while each token is that of its name's present holder.
        - `idempotency_key`, `idempotency_ttl`: a name for this write beyond the life of the client.
          A write under the same key within so many seconds (default and maximum: the server's) is
          not applied again, and returns the first result.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` or `TooLarge` for a wrong argument, with nothing changed;
        `DeadlineExceeded` if time ran out and nothing was changed, or another `Unavailable` with
        timeout 0; `OutcomeUnknown` if time ran out after the write was sent, so that it may have
        been applied; `FencedOff` or `LockLost` if a fence is not held; `IdempotencyKeyReused` if
        the key names another command; `WrongCluster`. Costs one entry of the replicated log, which
        a majority of the nodes writes to disk. Concurrent writes share that. Until `timeout` the
        client retries, and the write is applied once at most.
        """
        deletion = kv_pb2.DeleteRange(
            key=to_key(key, self._settings), prev_kv=to_flag(prev_kv, "prev_kv")
        )
        options = write_options(fence, idempotency_key, idempotency_ttl)
        return await self._delete(deletion, options, timeout)

    async def delete_range(
        self,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        limit: int = 0,
        prev_kv: bool = False,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> DeleteResult:
        """Delete the keys of a range, all in one revision.

        - `start`, `end`: the first key, and the key before which the range ends; b"\\0" as `end`:
          without end. Or `prefix`: the keys that begin with it. An empty prefix is refused.
        - `limit`: only the first so many keys, and `more` of the result says whether others are
          left; 0: all.
        - `prev_kv`: return the key-values that were deleted.
        - `fence`: a lock, a leadership, a grant or `(name, token)`, or a list of these. The write
          is applied only while each token is that of its name's present holder.
        - `idempotency_key`, `idempotency_ttl`: a name for this write beyond the life of the client.
          A write under the same key within so many seconds (default and maximum: the server's) is
          not applied again, and returns the first result.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` or `TooLarge` for a wrong argument, with nothing changed;
        `DeadlineExceeded` if time ran out and nothing was changed, or another `Unavailable` with
        timeout 0; `OutcomeUnknown` if time ran out after the write was sent, so that it may have
        been applied; `FencedOff` or `LockLost` if a fence is not held; `IdempotencyKeyReused` if
        the key names another command; `WrongCluster`; `TooManyKeys` if these are more than the
        10,000 keys that one revision may delete. Nothing was deleted then; `delete_range_in_pages`
        deletes any number. Costs one entry of the replicated log, which a majority of the nodes
        writes to disk. Concurrent writes share that. Until `timeout` the client retries, and the
        write is applied once at most.
        """
        start, end = deletion_bounds(start, end, prefix)
        deletion = kv_pb2.DeleteRange(
            key=to_key(start, self._settings, "start"),
            range_end=to_key(end, self._settings, "end"),
            limit=to_int64(limit, "limit", 0),
            prev_kv=to_flag(prev_kv, "prev_kv"),
        )
        options = write_options(fence, idempotency_key, idempotency_ttl)
        return await self._delete(deletion, options, timeout)

    async def delete_prefix(
        self,
        prefix: str | bytes,
        *,
        limit: int = 0,
        prev_kv: bool = False,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> DeleteResult:
        """Delete the keys that start with `prefix`, all in one revision. An empty prefix is
        refused.

        - `limit`: only the first so many keys, and `more` of the result says whether others are
          left; 0: all.
        - `prev_kv`: return the key-values that were deleted.
        - `fence`: a lock, a leadership, a grant or `(name, token)`, or a list of these. The write
          is applied only while each token is that of its name's present holder.
        - `idempotency_key`, `idempotency_ttl`: a name for this write beyond the life of the client.
          A write under the same key within so many seconds (default and maximum: the server's) is
          not applied again, and returns the first result.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` or `TooLarge` for a wrong argument, with nothing changed;
        `DeadlineExceeded` if time ran out and nothing was changed, or another `Unavailable` with
        timeout 0; `OutcomeUnknown` if time ran out after the write was sent, so that it may have
        been applied; `FencedOff` or `LockLost` if a fence is not held; `IdempotencyKeyReused` if
        the key names another command; `WrongCluster`; `TooManyKeys` if these are more than the
        10,000 keys that one revision may delete. Nothing was deleted then; `delete_prefix_in_pages`
        deletes any number. Costs one entry of the replicated log, which a majority of the nodes
        writes to disk. Concurrent writes share that. Until `timeout` the client retries, and the
        write is applied once at most.
        """
        return await self.delete_range(
            prefix=prefix,
            limit=limit,
            prev_kv=prev_kv,
            fence=fence,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            timeout=timeout,
        )

    async def compare_and_swap(
        self,
        key: str | bytes,
        expected: str | bytes | int | None,
        new_value: str | bytes,
        *,
        lease: int = 0,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> SwapResult:
        """Set `key` to `new_value` if the key is as expected. `swapped` of the result says whether
        it was; `current` is the key-value afterwards.

        - `key`: 1 to 8,192 bytes; a `str` stands for its UTF-8 bytes.
        - `expected`: a `str` or `bytes`, the present value; an `int`, the present mod_revision;
          None: the key is absent.
        - `new_value`: at most 1 MiB.
        - `lease`: the id of a lease whose end deletes the key; 0: none.
        - `fence`: a lock, a leadership, a grant or `(name, token)`, or a list of these. The write
          is applied only while each token is that of its name's present holder.
        - `idempotency_key`, `idempotency_ttl`: a name for this write beyond the life of the client.
          A write under the same key within so many seconds (default and maximum: the server's) is
          not applied again, and returns the first result.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` or `TooLarge` for a wrong argument, with nothing changed;
        `DeadlineExceeded` if time ran out and nothing was changed, or another `Unavailable` with
        timeout 0; `OutcomeUnknown` if time ran out after the write was sent, so that it may have
        been applied; `FencedOff` or `LockLost` if a fence is not held; `IdempotencyKeyReused` if
        the key names another command; `WrongCluster`; `LeaseNotFound`. Costs one entry of the
        replicated log, which a majority of the nodes writes to disk. Concurrent writes share that.
        Until `timeout` the client retries, and the write is applied once at most.
        """
        command = requests.compare_and_swap_command(self._settings, key, expected, new_value, lease)
        return await self._run(
            command,
            results.swap_result,
            timeout,
            write_options(fence, idempotency_key, idempotency_ttl),
        )

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        fence: Fences = None,
        idempotency_key: str | bytes = b"",
        idempotency_ttl: float | None = None,
        timeout: float | None = None,
    ) -> TransactionResult:
        """Run the operations of `success` if all conditions of `compare` hold, else those of
        `failure`, at one revision.

        - `compare`: conditions made with `raftkv.when`, at most 128.
        - `success`, `failure`: operations made with `raftkv.op`, at most 128 each, together at most
          1.5 MiB.
        - `fence`: a lock, a leadership, a grant or `(name, token)`, or a list of these. The write
          is applied only while each token is that of its name's present holder.
        - `idempotency_key`, `idempotency_ttl`: a name for this write beyond the life of the client.
          A write under the same key within so many seconds (default and maximum: the server's) is
          not applied again, and returns the first result.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` or `TooLarge` for a wrong argument, with nothing changed;
        `DeadlineExceeded` if time ran out and nothing was changed, or another `Unavailable` with
        timeout 0; `OutcomeUnknown` if time ran out after the write was sent, so that it may have
        been applied; `FencedOff` or `LockLost` if a fence is not held; `IdempotencyKeyReused` if
        the key names another command; `WrongCluster`; what an operation of the branch that ran
        raises, and then none of them is applied. Costs one entry of the replicated log, which a
        majority of the nodes writes to disk. Concurrent writes share that. Until `timeout` the
        client retries, and the write is applied once at most.
        """
        transaction = transaction_of(compare, success, failure)
        requests.check_transaction(self._settings, transaction)
        return await self._run(
            kv_pb2.Command(transaction=transaction),
            results.transaction_result,
            timeout,
            write_options(fence, idempotency_key, idempotency_ttl),
        )

    async def compact(self, revision: int, *, timeout: float | None = None) -> int:
        """Forget the history before `revision`; returns the present revision of the store.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `RevisionCompacted` if that history is forgotten already; `RevisionInFuture`;
        `InvalidRequest`; `DeadlineExceeded` if nothing was changed; `OutcomeUnknown`;
        `WrongCluster`. Reads and watches at older revisions raise `RevisionCompacted` from then on.
        Costs one entry of the replicated log.
        """
        compact = kv_pb2.Compact(revision=to_int64(revision, "revision", 1))
        command = kv_pb2.Command(compact=compact)
        return await self._run(command, results.revision_of, timeout)

    async def _delete(
        self,
        deletion: kv_pb2.DeleteRange,
        options: WriteOptions,
        timeout: float | None,
    ) -> DeleteResult:
        try:
            command = kv_pb2.Command(delete_range=deletion)
            return await self._run(command, results.delete_result, timeout, options)
        except TooManyKeys as error:
            advised = TooManyKeys(
                f"{error.message} (delete_range_in_pages and delete_prefix_in_pages do that)"
            )
            advised.facts = error.facts
            raise advised from None
