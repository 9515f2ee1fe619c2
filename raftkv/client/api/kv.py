"""Reading and writing keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, TypeVar

from raftkv.arguments import shown, to_flag, to_int64
from raftkv.client import requests
from raftkv.client.api.paging import ReadPage, read_range
from raftkv.client.connection.batches import AtLeast, QueueLevel, ReadQueue
from raftkv.client.core import Core
from raftkv.client.model import results
from raftkv.client.model.op import Operation, Sort, transaction_of
from raftkv.client.model.read_levels import Level, ReadLevel, to_level
from raftkv.client.model.results import (
    DeleteResult,
    KeyValue,
    PutResult,
    RangeResult,
    Reading,
    SwapResult,
    TransactionResult,
)
from raftkv.client.model.when import Compare
from raftkv.client.requests import (
    Fences,
    WriteOptions,
    deletion_bounds,
    range_bounds,
    to_key,
    write_options,
)
from raftkv.errors import InvalidRequest, TooManyKeys, Unavailable
from raftkv.rpc.v1 import kv_pb2


class KvMethods(Core):
    """Keys and values. A `str` stands for its UTF-8 bytes; what comes back is always bytes.

    Every method takes `timeout` in seconds (None: the client's default, 0: try once, see `connect`;
    at most `ClientSettings.timeout_s_max`; looked at every 25 ms) and raises, besides what it says:

    - `InvalidRequest`, `TooLarge`: it can never work as it is, and the message names the argument;
      nothing was sent or changed.
    - `DeadlineExceeded`: time ran out and nothing was changed. With timeout 0 also any other
      `Unavailable` with which the one attempt was refused.
    - `OutcomeUnknown` (writes): time ran out after it was sent; it may have been applied.
    - `WrongCluster`: nobody of the client's cluster is left; nothing was changed.

    Writes are retried until then under the client's session, and applied once at most.
    `idempotency_key` names a write beyond the life of the client: repeated within
    `idempotency_ttl` seconds (default and maximum: the server's) it is not applied again, and
    the first result is returned; with another command it raises `IdempotencyKeyReused`.

    `fence` is a lock, a grant, a leadership or (name, token), or a list of these: the write runs
    only while each token is that of its name's holder, else it raises `FencedOff`.
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
        """Set `key` to `value`, attached to `lease` if one is given.

        `prev_kv` returns what it replaced. `ignore_value` and `ignore_lease` keep what the key has
        of them. Raises `LeaseNotFound`, and `KeyNotFound` if there is nothing to keep.
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

    async def get(
        self,
        key: str | bytes,
        *,
        revision: int = 0,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> KeyValue | None:
        """The key as it is, or was at `revision`; None if it is absent.

        `fallback="stale"`: if no majority answers within the time, whatever a node has; `read`
        says whether that was so. Raises `RevisionCompacted`, `RevisionInFuture` and, for a bounded
        level, `TooStale`.
        """
        if fallback is not None:
            found = await self.read(
                key, revision=revision, level=level, fallback=fallback, timeout=timeout
            )
            return found.kv
        piece = requests.get_piece(self._settings, key, revision)
        timeout_s = self._timeout_s if timeout is None else self._timeout(timeout)
        pipeline = self._pipeline
        queue = self._reads(level)
        return await pipeline.submit(queue, piece, results.first_of_range, timeout_s)

    async def read(
        self,
        key: str | bytes,
        *,
        revision: int = 0,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> Reading:
        """As `get`, with who answered: `kv`, and which node, in which term, from which revision,
        how stale that may be, and whether it is the fallback.
        """
        piece = requests.get_piece(self._settings, key, revision)
        pipeline = self._pipeline

        async def read(level: Level, timeout_s: float) -> Reading:
            return await pipeline.submit(self._reads(level), piece, results.reading, timeout_s)

        timeout_s = self._timeout(timeout)
        reading, fell_back = await read_or_fall_back(read, level, fallback, timeout_s)
        return replace(reading, fallback=fell_back)

    async def range(
        self,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        limit: int = 0,
        revision: int = 0,
        sort: Sort = Sort.KEY,
        descending: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> RangeResult:
        """The keys from `start` up to and without `end`; b"\\0" as `end`: without end. Or those
        that begin with `prefix`.

        At most `limit` of them (0: all). What is too large for one reply or read is fetched in
        pages of the same revision, within the one timeout; `scan` reads any number of keys, and
        holds but a page of them. `fallback="stale"`: if no majority answers within the time,
        whatever a node has, with `fallback` set. Raises `RevisionCompacted`, `RevisionInFuture`
        and, for a bounded level, `TooStale`.
        """
        start, end = range_bounds(start, end, prefix)
        message = requests.range_message(
            self._settings,
            start,
            end,
            limit=limit,
            revision=revision,
            sort=sort,
            descending=descending,
            keys_only=keys_only,
            count_only=count_only,
        )

        async def read(level: Level, timeout_s: float) -> RangeResult:
            read_page = self._page_reader(level, message.revision, self._countdown(timeout_s))
            page_keys_max = self._settings.page_keys_max
            return await read_range(read_page, message, sort, descending, page_keys_max)

        timeout_s = self._timeout(timeout)
        result, fell_back = await read_or_fall_back(read, level, fallback, timeout_s)
        return replace(result, fallback=fell_back)

    def _page_reader(self, level: Level, revision: int, timeout_s: Callable[[], float]) -> ReadPage:
        """Reads the first page at `level`; the others are pinned to its revision, and need only a
        node that has it. `timeout_s` says how much time the next one has.
        """
        pipeline = self._pipeline

        async def read_page(page: kv_pb2.Range) -> RangeResult:
            pinned = page.revision != revision
            queue = self._reads(AtLeast(page.revision) if pinned else level)
            piece = requests.range_piece(page)
            return await pipeline.submit(queue, piece, results.range_reading, timeout_s())

        return read_page

    async def range_prefix(
        self,
        prefix: str | bytes,
        *,
        limit: int = 0,
        revision: int = 0,
        sort: Sort = Sort.KEY,
        descending: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> RangeResult:
        """The keys that start with `prefix`, all keys if it is empty. Otherwise as `range`."""
        return await self.range(
            prefix=prefix,
            limit=limit,
            revision=revision,
            sort=sort,
            descending=descending,
            keys_only=keys_only,
            count_only=count_only,
            level=level,
            fallback=fallback,
            timeout=timeout,
        )

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
        """Delete a key. `deleted` is 0 if it was absent; `prev_kv` returns what it was."""
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
        """Delete the keys from `start` up to and without `end`; b"\\0" as `end`: without end. Or
        those that begin with `prefix`, which must not be empty.

        All of them in one revision, or only the first `limit` of them, and `more` says whether
        there are others. Raises `TooManyKeys` if they are more than one revision may delete:
        nothing was deleted then, and `delete_range_in_pages` deletes any number.
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
        """Delete the keys that start with `prefix`, which must not be empty. Otherwise as
        `delete_range`.
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
        """Set `key` to `new_value` if it is as `expected`.

        `expected`: str or bytes, the present value; int, the present mod_revision; None, the key
        is absent. `swapped` says whether it was; `current` is the key afterwards.
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
        """Run `success` if all of `compare` holds, else `failure`; all at one revision.

        `compare` is made with `raftkv.when`, the operations with `raftkv.op`; at most 128 of each.
        """
        transaction = transaction_of(compare, success, failure)
        requests.check_transaction(self._settings, transaction)
        return await self._run(
            kv_pb2.Command(transaction=transaction),
            results.transaction_result,
            timeout,
            write_options(fence, idempotency_key, idempotency_ttl),
        )

    async def read_txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> TransactionResult:
        """As `txn`, of nothing but reads: all compared and read in one state, not through the log.

        `level` and `fallback` are those of `range`. Raises `InvalidRequest` if an operation would
        change something, `TooLarge` if the answers together are larger than a reply.
        """
        transaction = transaction_of(compare, success, failure)
        piece = requests.read_transaction_piece(self._settings, transaction)
        pipeline = self._pipeline

        async def read(level: Level, timeout_s: float) -> TransactionResult:
            queue = self._reads(level, transactions=True)
            return await pipeline.submit(queue, piece, results.transaction_reading, timeout_s)

        timeout_s = self._timeout(timeout)
        result, fell_back = await read_or_fall_back(read, level, fallback, timeout_s)
        return replace(result, fallback=fell_back)

    async def compact(self, revision: int, *, timeout: float | None = None) -> int:
        """Forget the history before `revision`; returns the store's present revision.

        Raises `RevisionCompacted` if it is forgotten already, `RevisionInFuture`.
        """
        compact = kv_pb2.Compact(revision=to_int64(revision, "revision", 1))
        command = kv_pb2.Command(compact=compact)
        return await self._run(command, results.revision_of, timeout)

    def _reads(self, level: QueueLevel, *, transactions: bool = False) -> ReadQueue:
        """The queue of a level; a session read includes what unary calls have seen, too."""
        if type(level) is not ReadLevel and not isinstance(level, AtLeast):
            to_level(level)
        self._pipeline.saw(self._unary.revision)
        return self._pipeline.reads(level, transactions=transactions)

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
            told = TooManyKeys(
                f"{error.message} (delete_range_in_pages and delete_prefix_in_pages do that)"
            )
            told.facts = error.facts
            raise told from None


Fallback: TypeAlias = Literal["stale"] | None

# Of the caller's time, for the stale read: it needs one node that answers, and no majority.
STALE_SHARE = 0.25

T = TypeVar("T")


async def read_or_fall_back(
    read: Callable[[Level, float], Awaitable[T]],
    level: Level,
    fallback: Fallback,
    timeout_s: float,
) -> tuple[T, bool]:
    """What `read(level, timeout_s)` returns, and whether it had to be read stale.

    With a fallback, `level` has three quarters of the time, and the rest is for the stale read.
    """
    if fallback is None:
        return await read(level, timeout_s), False
    if fallback != "stale":
        raise InvalidRequest(
            f"fallback is {shown(fallback)}; it can only be 'stale'", field="fallback"
        )
    stale_s = timeout_s * STALE_SHARE
    try:
        return await read(level, timeout_s - stale_s), False
    except Unavailable:
        return await read(ReadLevel.STALE, stale_s), True
