"""The client's method that watches keys."""

from __future__ import annotations

from raftkv.arguments import to_bytes, to_flag, to_int64
from raftkv.client.core import Core
from raftkv.client.requests import prefix_range, to_key
from raftkv.client.watch.watch import Watch
from raftkv.client.watch.watcher import WatchState
from raftkv.errors import InvalidRequest
from raftkv.rpc.v1 import api_pb2
from raftkv.wire.ranges import NO_END


class WatchMethods(Core):
    """Watches: changes of keys as they are made, or from history."""

    def watch(
        self,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        from_revision: int = 0,
        prev_kv: bool = False,
        puts: bool = True,
        deletes: bool = True,
        progress: bool = False,
    ) -> Watch:
        """The changes of the key `start`, of the keys from `start` to before `end`, or of those
        that begin with `prefix`.

        - `from_revision`: the first revision; 0: from now on, without what was acknowledged before
          the call.
        - `prev_kv`: with the key-value before each change.
        - `puts`, `deletes`: False leaves these changes out; one of them must be True.
        - `progress`: also events of kind PROGRESS, now and then, with the revision up to which
          every event was delivered.

        Raises `InvalidRequest` for a wrong argument. Iterating raises `RevisionCompacted` if the
        next revision is compacted, and `WrongCluster`. The watch begins in the background, at once:
        `async with` or `started` waits for that. Costs one watcher on one node; all watches of a
        client share one stream. Close it, or use it as a block.
        """
        if not (to_flag(puts, "puts") or to_flag(deletes, "deletes")):
            raise InvalidRequest("neither puts nor deletes are wanted; leave one of them at True")
        request = api_pb2.WatchCreate(
            start_revision=to_int64(from_revision, "from_revision", 0),
            prev_kv=to_flag(prev_kv, "prev_kv"),
            no_put=not puts,
            no_delete=not to_flag(deletes, "deletes"),
            progress_notify=to_flag(progress, "progress"),
        )
        request.key, request.range_end = self._watched(start, end, prefix)
        watcher = WatchState(
            self._watches, request, self._settings.watch_buffer_bytes_max, self._pipeline.saw
        )
        self._watches.add(watcher)
        return Watch(watcher, self._wait_s_max, self)

    def _watched(
        self, start: str | bytes | None, end: str | bytes | None, prefix: str | bytes | None
    ) -> tuple[bytes, bytes]:
        if prefix is not None:
            if start is not None or end is not None:
                raise InvalidRequest("prefix is given with start or end; give one or the other")
            return prefix_range(prefix)
        if start is None:
            raise InvalidRequest("nothing to watch; give a key, a start and an end, or a prefix")
        key = to_key(start, self._settings, "start")
        if end is None:
            return key, b""
        range_end = to_bytes(end, "end")
        if range_end != NO_END and range_end <= key:
            raise InvalidRequest("the range is empty; end has to be after start", field="end")
        return key, range_end
