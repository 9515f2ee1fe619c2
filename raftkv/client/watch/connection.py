"""The one stream that carries all watches of a client, and its move from node to node.

    no stream -- a watch is added --> asked -- confirmed --> running --+
        ^                               |                       |      | idle for a while: asks the
        |                               |                       |<-----+ node for its progress
        +--- broken, ended, or no answer in time ---------------+

On a new stream every watch is requested again, from its bookmark + 1. A reply of another cluster's
node is dropped; once no other endpoint is left, all watches end with `WrongCluster`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import suppress

from google.protobuf.message import DecodeError

from raftkv.client.authentication import Authentication
from raftkv.client.connection.endpoints import Endpoint, Endpoints, EndpointSelector
from raftkv.client.connection.home import Home
from raftkv.client.connection.link import WATCH, LinkStream
from raftkv.client.settings import TIMER_TOLERANCE_S, ClientSettings
from raftkv.client.watch.dispatch import WatchDispatcher
from raftkv.client.watch.watcher import WatchState
from raftkv.errors import (
    ConnectionFailed,
    Outcome,
    OutcomeUnknown,
    Overloaded,
    RaftkvError,
    Unauthenticated,
    Unavailable,
    copy_of,
)
from raftkv.rpc.v1 import api_pb2
from raftkv.wire.failures import error_of

CREATES_PER_MESSAGE_MAX = 1_000


class WatchConnection:
    """Runs the watches of a client, in callbacks of one event loop, without a task."""

    def __init__(
        self,
        endpoints: Endpoints,
        settings: ClientSettings,
        rng: random.Random,
        loop: asyncio.AbstractEventLoop,
        authentication: Authentication,
    ) -> None:
        self._endpoints = endpoints
        self._authentication = authentication
        authentication.on_token.append(self._token_changed)
        self._settings = settings
        self._loop = loop
        self.home = Home(loop)
        self._selector = EndpointSelector(endpoints, settings, rng)
        self._dispatcher = WatchDispatcher(loop, self._pause)
        self._ids = itertools.count(1)
        self._watches: dict[int, WatchState] = {}
        self._created_ids: set[int] = set()  # the node has confirmed that it runs these
        self._creates: dict[int, None] = {}  # to be requested
        self._cancels: list[int] = []
        self._stream: LinkStream | None = None
        self._endpoint: Endpoint | None = None
        self._token = ""  # of the stream
        self._resume_at = loop.time()
        self._confirmed_at = 0.0  # the node confirmed with a majority that it did not lag
        self._asked_at: float | None = None  # for its progress, and there is no answer yet
        self._pump_handle: asyncio.Handle | None = None
        self._tick_handle: asyncio.TimerHandle | None = None
        self.closed = False
        self.trouble = ""  # the last refusal since a node has served a watch

    # ---- for watches -------------------------------------------------------------------

    def add(self, watch: WatchState) -> None:
        """Run this watch from now on."""
        self.home.check()
        if self.closed:
            raise Unavailable("the client is closed")
        watch.watch_id = next(self._ids)
        self._watches[watch.watch_id] = watch
        self._creates[watch.watch_id] = None
        self._wake()

    def remove(self, watch: WatchState) -> None:
        """See `WatchRunner.remove`."""
        if self._watches.pop(watch.watch_id, None) is None:
            return
        self._created_ids.discard(watch.watch_id)
        if watch.watch_id in self._creates:
            del self._creates[watch.watch_id]
        else:
            self._cancels.append(watch.watch_id)
            self._wake()

    @property
    def runs(self) -> bool:
        """See `WatchRunner.runs`."""
        return not self.closed and not self.home.inherited and self._loop.is_running()

    def remove_dropped(self, watch: WatchState) -> None:
        """See `WatchRunner.remove_dropped`."""
        with suppress(RuntimeError):  # the loop is closed, and the stream with it
            self._loop.call_soon_threadsafe(self.remove, watch)

    def resume(self, watch: WatchState) -> None:
        """See `WatchRunner.resume`."""
        watch.paused = False
        if self.closed:
            watch.fail(Unavailable("the client is closed"))
        else:
            self.add(watch)

    def close(self) -> None:
        """End the stream and every watch."""
        self.closed = True
        for handle in (self._pump_handle, self._tick_handle):
            if handle is not None:
                handle.cancel()
        self._dispatcher.close()
        self.fail_all(Unavailable("the client is closed"))

    def fail_all(self, error: RaftkvError) -> None:
        """End every watch with this error, after the events that have arrived."""
        self._dispatcher.end_stream()
        if self._stream is not None:
            self._stream.close()
            self._stream = self._endpoint = None
        self._creates.clear()
        self._created_ids.clear()
        watches, self._watches = self._watches, {}
        for watch in watches.values():
            watch.fail(copy_of(error))

    def _pause(self, watch: WatchState) -> None:
        """Its consumer is too slow: end it at the node until the consumer has taken its events."""
        watch.paused = True
        self.remove(watch)

    # ---- out ---------------------------------------------------------------------------

    def _wake(self) -> None:
        """Send the pending requests at the end of this turn."""
        if self._pump_handle is None and not self.closed:
            self._pump_handle = self._loop.call_soon(self._pump)

    def _wake_at(self, when: float) -> None:
        if self._pump_handle is not None:
            self._pump_handle.cancel()
        self._pump_handle = self._loop.call_at(when, self._pump)

    def _pump(self) -> None:
        self._pump_handle = None
        if self._stream is None and not self._connect():
            return
        creates = [self._watches[watch_id].request() for watch_id in self._creates]
        cancels = self._cancels
        self._creates, self._cancels = {}, []
        for first in range(0, max(1, len(creates)), CREATES_PER_MESSAGE_MAX):
            some = creates[first : first + CREATES_PER_MESSAGE_MAX]
            if some or cancels:
                self._send(api_pb2.WatchRequest(creates=some, cancels=cancels))
            cancels = []

    def _send(self, request: api_pb2.WatchRequest) -> None:
        if self._stream is not None:
            self._stream.send(request.SerializeToString())

    def _connect(self) -> bool:
        """Open a stream and request all watches on it; returns whether there is one now."""
        self._cancels.clear()
        if not self._watches:
            return False
        now = self._loop.time()
        if (gone := self._endpoints.binding.gone(now)) is not None:
            self.fail_all(gone)
            return False
        if now < self._resume_at - TIMER_TOLERANCE_S:
            self._wake_at(self._resume_at)
            return False
        if not self._authentication.ready:
            if (refusal := self._authentication.refusal) is not None:
                self.fail_all(refusal)
            else:
                self._authentication.log_in()
            return False
        endpoint = self._selector.choose(now)
        if endpoint is None:
            self._wake_at(self._selector.next_attempt_at(now))
            return False
        endpoint.breaker.begin(now)
        self._endpoint = endpoint
        self._token = self._authentication.token
        self._stream = endpoint.link.open(self._on_message, self._on_end, WATCH, token=self._token)
        self._creates = dict.fromkeys(self._watches)
        self._created_ids.clear()
        self._confirmed_at = self._asked_at = now
        self._arm_tick(now + self._settings.silence_s_max)
        self._send(api_pb2.WatchRequest(progress=True))
        return True

    def _token_changed(self) -> None:
        """An open stream gets the new token; or there is none, and waiting watches end."""
        token = self._authentication.token
        if self._stream is not None and token and token != self._token:
            self._token = token
            self._send(api_pb2.WatchRequest(token=token))
        if self._stream is None:
            self._wake()

    # ---- in ----------------------------------------------------------------------------

    def _on_message(self, message: bytes) -> None:
        try:
            reply = api_pb2.WatchReply.FromString(message)
        except DecodeError:
            self._on_end(OutcomeUnknown("the node sent no valid reply"))
            return
        endpoint, binding = self._endpoint, self._endpoints.binding
        if endpoint is None:
            return
        endpoint.breaker.succeeded()
        if not binding.answered(endpoint, reply.header, self._loop.time()):
            self._move_on(binding.foreign_error(endpoint))
            return
        for response in reply.news:
            if self._stream is None:
                return  # an earlier response has ended it; the next stream repeats the others
            if response.events:
                self._dispatcher.collect(response, self._watches)
                self._confirmed()
            elif response.HasField("ended"):
                self._ended(response)
            elif response.created:
                self._created(response)
            elif response.watch_ids:
                ids = [each for each in response.watch_ids if each in self._created_ids]
                self._progress(response.revision, ids)
            else:
                self._confirmed()
                self._progress(response.revision, list(self._created_ids))

    def _confirmed(self) -> None:
        self._confirmed_at = self._loop.time()
        if self._asked_at is not None:
            self._asked_at = None
            self._arm_tick(self._confirmed_at + self._settings.watch_heartbeat_s)
        self._selector.answered()
        self._selector.avoid(None)
        self.trouble = ""

    def _created(self, response: api_pb2.WatchNews) -> None:
        for watch_id in response.watch_ids:
            watch = self._watches.get(watch_id)
            if watch is not None:
                self._authentication.accepted(self._token)
                self._created_ids.add(watch_id)
                watch.start(response.revision)

    def _progress(self, revision: int, ids: list[int]) -> None:
        # After the events that have arrived before it.
        self._dispatcher.deliver()
        for watch_id in ids:
            watch = self._watches.get(watch_id)
            if watch is not None and watch.progress(revision):
                watch.deliver_progress()

    def _ended(self, response: api_pb2.WatchNews) -> None:
        self._dispatcher.deliver()
        error = error_of(response.ended)
        if isinstance(error, Unauthenticated):
            self._on_end(error)
            return
        for watch_id in response.watch_ids:
            watch = self._watches.get(watch_id)
            if watch is None:
                continue
            self._created_ids.discard(watch_id)
            refused = isinstance(error, Overloaded) and not watch.is_started
            if error.outcome is Outcome.NOT_APPLIED or refused:
                del self._watches[watch_id]
                watch.fail(error)
            elif isinstance(error, Overloaded):
                self._loop.call_later(error.retry_after_s, self._ask_again, watch_id)
            else:
                self._on_end(error)  # another node may do better
                return

    def _ask_again(self, watch_id: int) -> None:
        if watch_id in self._watches and watch_id not in self._created_ids:
            self._creates[watch_id] = None
            self._wake()

    def _on_end(self, error: RaftkvError) -> None:
        """The stream is over, or has failed."""
        if isinstance(error, Unauthenticated):
            if self._authentication.refused(self._token, error):
                self._move_on(error)
            else:
                self.fail_all(error)
            return
        if self._endpoint is not None:
            self._endpoints.failed(self._endpoint, self._loop.time())
        self._move_on(error)

    def _move_on(self, error: RaftkvError) -> None:
        """Leave the node, if there is one, and continue at another."""
        endpoint, stream = self._endpoint, self._stream
        if endpoint is None or stream is None:
            return
        now = self._loop.time()
        if not isinstance(error, ConnectionFailed):
            self.trouble = f"{endpoint.address}: {error.message}"
        stream.close()
        self._stream = self._endpoint = None
        self._dispatcher.end_stream()
        if self._selector.failed(endpoint):
            pause_s = max(self._selector.backoff.next_s(), error.retry_after_s)
            self._resume_at = now + pause_s
        self._wake()

    # ---- silence -----------------------------------------------------------------------

    def _arm_tick(self, when: float) -> None:
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        self._tick_handle = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        """Ask a silent node for its progress; leave one that does not answer."""
        self._tick_handle = None
        if self._stream is None:
            return
        now = self._loop.time() + TIMER_TOLERANCE_S
        heartbeat_s, silence_s_max = self._settings.watch_heartbeat_s, self._settings.silence_s_max
        if self._asked_at is None and now >= self._confirmed_at + heartbeat_s:
            if not self._watches:
                self._stream.close()
                self._stream = self._endpoint = None
                return
            self._asked_at = now
            self._send(api_pb2.WatchRequest(progress=True))
        if self._asked_at is None:
            self._arm_tick(self._confirmed_at + heartbeat_s)
        elif now < self._asked_at + silence_s_max:
            self._arm_tick(self._asked_at + silence_s_max)
        else:
            self._on_end(OutcomeUnknown("the node has fallen silent, or is cut off"))
