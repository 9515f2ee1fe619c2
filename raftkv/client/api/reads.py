"""The client's methods that read keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, TypeVar

from raftkv.arguments import shown
from raftkv.client import requests
from raftkv.client.api.paging import ReadPage, read_range
from raftkv.client.connection.batches import AtLeast, QueueLevel, ReadQueue
from raftkv.client.core import Core
from raftkv.client.model import results
from raftkv.client.model.op import Operation, Sort, transaction_of
from raftkv.client.model.read_levels import Level, ReadLevel, to_level
from raftkv.client.model.results import (
    KeyValue,
    RangeResult,
    Reading,
    TransactionResult,
)
from raftkv.client.model.when import Compare
from raftkv.client.requests import range_bounds
from raftkv.errors import InvalidRequest, Unavailable
from raftkv.rpc.v1 import kv_pb2

Fallback: TypeAlias = Literal["stale"] | None

# The share of the caller's time for the stale read, which needs one node and no majority.
STALE_SHARE = 0.25

T = TypeVar("T")


class ReadMethods(Core):
    """Reads, at any of the levels of `ReadLevel`. Values that come back are always bytes."""

    async def get(
        self,
        key: str | bytes,
        *,
        revision: int = 0,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> KeyValue | None:
        """The key-value of `key` as it is now, or was at `revision`; None if the key is absent.

        - `key`: 1 to 8,192 bytes; a `str` stands for its UTF-8 bytes.
        - `revision`: a revision of the history; 0: now.
        - `level`: how fresh the answer is, a `ReadLevel` or `raftkv.bounded(seconds)`. LINEARIZABLE
          includes every write that was acknowledged before the call.
        - `fallback`: "stale" allows the state of any node if no majority answers within three
          quarters of `timeout`.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` or `TooLarge` for a wrong argument; `DeadlineExceeded` if no answer
        came in time, or another `Unavailable` with timeout 0; `RevisionCompacted` and
        `RevisionInFuture` for a `revision` that is not in the history; `TooStale` for a bounded
        level; `WrongCluster`. A LINEARIZABLE read costs the leader one confirmation by a majority,
        which concurrent reads share; a STALE one costs one message to one node. `read` returns
        which node answered, too.
        """
        if fallback is not None:
            found = await self.read(
                key, revision=revision, level=level, fallback=fallback, timeout=timeout
            )
            return found.kv
        piece = requests.get_piece(self._settings, key, revision)
        timeout_s = self._timeout_s if timeout is None else self._timeout(timeout)
        pipeline = self._pipeline
        return await pipeline.submit(self._reads(level), piece, results.first_of_range, timeout_s)

    async def read(
        self,
        key: str | bytes,
        *,
        revision: int = 0,
        level: Level = ReadLevel.LINEARIZABLE,
        fallback: Fallback = None,
        timeout: float | None = None,
    ) -> Reading:
        """As `get`, with the origin of the answer: node, term, revision, staleness, and `fallback`.

        - `key`: 1 to 8,192 bytes; a `str` stands for its UTF-8 bytes.
        - `revision`: a revision of the history; 0: now.
        - `level`: how fresh the answer is, a `ReadLevel` or `raftkv.bounded(seconds)`. LINEARIZABLE
          includes every write that was acknowledged before the call.
        - `fallback`: "stale" allows the state of any node if no majority answers within three
          quarters of `timeout`.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` or `TooLarge` for a wrong argument; `DeadlineExceeded` if no answer
        came in time, or another `Unavailable` with timeout 0; `RevisionCompacted` and
        `RevisionInFuture` for a `revision` that is not in the history; `TooStale` for a bounded
        level; `WrongCluster`. A LINEARIZABLE read costs the leader one confirmation by a majority,
        which concurrent reads share; a STALE one costs one message to one node.
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
        """The keys of a range, in order, as they were at one revision.

        - `start`, `end`: the first key, and the key before which the range ends; b"\\0" as `end`:
          without end. Or `prefix`: the keys that begin with it.
        - `limit`: at most so many keys; 0: all.
        - `revision`: a revision of the history; 0: now.
        - `sort`, `descending`: the order, by key unless another `Sort` is given.
        - `keys_only`: without values. `count_only`: `count`, and no keys.
        - `level`: how fresh the answer is, a `ReadLevel` or `raftkv.bounded(seconds)`. LINEARIZABLE
          includes every write that was acknowledged before the call.
        - `fallback`: "stale" allows the state of any node if no majority answers within three
          quarters of `timeout`.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` or `TooLarge` for a wrong argument; `DeadlineExceeded` if no answer
        came in time, or another `Unavailable` with timeout 0; `RevisionCompacted` and
        `RevisionInFuture` for a `revision` that is not in the history; `TooStale` for a bounded
        level; `WrongCluster`. A LINEARIZABLE read costs the leader one confirmation by a majority,
        which concurrent reads share; a STALE one costs one message to one node. A range that is too
        large for one reply is fetched in pages of the same revision, within the one timeout, and
        held in memory; `scan` holds one page at a time.
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
        node that has it. `timeout_s()` is the time that is left for the next page.
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
        """The keys that start with `prefix`, in order, as they were at one revision; all keys if it
        is empty.

        - `limit`: at most so many keys; 0: all.
        - `revision`: a revision of the history; 0: now.
        - `sort`, `descending`: the order, by key unless another `Sort` is given.
        - `keys_only`: without values. `count_only`: `count`, and no keys.
        - `level`: how fresh the answer is, a `ReadLevel` or `raftkv.bounded(seconds)`. LINEARIZABLE
          includes every write that was acknowledged before the call.
        - `fallback`: "stale" allows the state of any node if no majority answers within three
          quarters of `timeout`.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` or `TooLarge` for a wrong argument; `DeadlineExceeded` if no answer
        came in time, or another `Unavailable` with timeout 0; `RevisionCompacted` and
        `RevisionInFuture` for a `revision` that is not in the history; `TooStale` for a bounded
        level; `WrongCluster`. A LINEARIZABLE read costs the leader one confirmation by a majority,
        which concurrent reads share; a STALE one costs one message to one node. Otherwise as
        `range`.
        """
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
        """As `txn`, of nothing but reads: all compared and read in one state, without an entry of
        the log.

        - `compare`: conditions made with `raftkv.when`, at most 128.
        - `success`, `failure`: ranges made with `raftkv.op`, at most 128 each.
        - `level`: how fresh the answer is, a `ReadLevel` or `raftkv.bounded(seconds)`. LINEARIZABLE
          includes every write that was acknowledged before the call.
        - `fallback`: "stale" allows the state of any node if no majority answers within three
          quarters of `timeout`.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` for an operation that would change something or another wrong
        argument; `TooLarge` if the answers together are larger than a reply; `DeadlineExceeded` if
        no answer came in time, or another `Unavailable` with timeout 0; `TooStale` for a bounded
        level; `WrongCluster`. A LINEARIZABLE read costs the leader one confirmation by a majority,
        which concurrent reads share; a STALE one costs one message to one node.
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

    def _reads(self, level: QueueLevel, *, transactions: bool = False) -> ReadQueue:
        """The call queue of a level. SESSION includes what unary answers have shown, too."""
        if type(level) is not ReadLevel and not isinstance(level, AtLeast):
            to_level(level)
        self._pipeline.saw(self._unary.revision)
        return self._pipeline.reads(level, transactions=transactions)


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
