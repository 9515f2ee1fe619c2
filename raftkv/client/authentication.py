"""Logs a client in, and gives all its calls and streams the token that authenticates them.

    logged out -- a call or stream needs a token --> logging in -- a token --> logged in --+
       ^                                               |   ^                        |      | two
       |                                               |   |                        |      | thirds
       |                                               |   +-- a node refuses it ---+<-----+ of its
       +---- the pause is over ---- refused <----------+                                    lifetime

A session token is short-lived. It is replaced before it ends, and the open streams get the new one.
A client that was made with a token has no password: that token is all it can send.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from raftkv.backoff import Backoff
from raftkv.client.credentials import UserCredentials
from raftkv.client.settings import ClientSettings
from raftkv.errors import (
    DeadlineExceeded,
    OutcomeUnknown,
    RaftkvError,
    Unavailable,
    copy_of,
)
from raftkv.rpc.v1 import api_pb2

RENEWAL_SHARE: Final = 2 / 3
"""Of a token's lifetime, after which it is replaced. The rest is for attempts that fail."""

LOG_IN_S_MAX: Final = 5.0
"""How long one attempt to log in goes from node to node."""

REFUSED_PAUSE_S: Final = 1.0
"""After a refusal no log-in is tried for this long, or longer if the node says so."""

Authenticate = Callable[[api_pb2.AuthenticateRequest, float], Awaitable[api_pb2.AuthenticateReply]]


class Authentication:
    """The token of one client. Lives on its event loop."""

    def __init__(
        self,
        credentials: UserCredentials,
        settings: ClientSettings,
        rng: random.Random,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.token = credentials.token
        """What calls and streams are authenticated with now; empty: nothing."""
        self.authenticate: Authenticate = _nothing
        self.on_token: list[Callable[[], None]] = []
        """Called after each new token, and after each refusal to give one."""
        self._credentials = credentials
        self._loop = loop
        self._backoff = Backoff(rng, settings.backoff_s_min, settings.backoff_s_max)
        self._logging_in: asyncio.Task[None] | None = None
        self._renewal: asyncio.TimerHandle | None = None
        self._renew_at = 0.0
        self._refusal: RaftkvError | None = None
        self._retry_at = 0.0
        self._trouble = "no node has answered"
        # The token replaces one that a node has refused, and no node has accepted it yet.
        self._doubtful = False
        self._closed = False

    @property
    def logs_in(self) -> bool:
        """Whether the client has a password, to get tokens with."""
        return bool(self._credentials.password)

    @property
    def ready(self) -> bool:
        """Whether calls may be sent: there is a token, or the client has no password to get one."""
        return bool(self.token) or not self.logs_in

    @property
    def refusal(self) -> RaftkvError | None:
        """Why there is no token, and none is asked for at present; None: `log_in` may be called."""
        if self._refusal is None or self._loop.time() >= self._retry_at:
            return None
        return copy_of(self._refusal)

    def log_in(self) -> None:
        """Get a token in the background, unless that is under way."""
        if self._closed or not self.logs_in:
            return
        if self._logging_in is None or self._logging_in.done():
            self._refusal = None
            self._logging_in = self._loop.create_task(self._log_in())

    async def wait(self, timeout_s: float) -> str:
        """The token, once there is one; empty if the client has no credentials.

        Raises `Unauthenticated` if the cluster refuses the password, `DeadlineExceeded` if no node
        could check it in time.
        """
        deadline = self._loop.time() + timeout_s
        while not self.ready:
            if (refusal := self.refusal) is not None:
                raise refusal
            self.log_in()
            left_s = deadline - self._loop.time()
            if left_s <= 0 or self._logging_in is None:
                raise DeadlineExceeded(
                    f"no node could check the password of {self._credentials.user!r} in time, so"
                    f" nothing was sent; the last answer: {self._trouble}"
                )
            await asyncio.wait([self._logging_in], timeout=left_s)
        return self.token

    def refused(self, token: str, error: RaftkvError) -> bool:
        """A node has refused this token. Returns whether the call is worth another attempt.

        The next attempt waits for a new token. If a node refuses that as well before it was due for
        renewal, it is the last: a token that could not be renewed has simply expired.
        """
        if not self.logs_in:
            return False
        if token and token == self.token:
            self._drop_token()
            if self._doubtful and self._loop.time() < self._renew_at:
                self._refuse(error)
            else:
                self._doubtful = True
        if not self.ready and self.refusal is None:
            self.log_in()
        return self.refusal is None

    def accepted(self, token: str) -> None:
        """A node has served a call with this token."""
        if self._doubtful and token and token == self.token:
            self._doubtful = False

    def password_changed(self, user: str, password: str) -> None:
        """The client has changed a password: its own, if it is the user."""
        if self.logs_in and user == self._credentials.user:
            self._credentials = replace(self._credentials, password=password)

    async def close(self) -> None:
        """Renew no more."""
        self._closed = True
        self._drop_timer()
        if self._logging_in is not None:
            self._logging_in.cancel()
            await asyncio.wait([self._logging_in])

    async def _log_in(self) -> None:
        """Ask for a token until a node gives one, or refuses."""
        request = api_pb2.AuthenticateRequest(
            name=self._credentials.user, password=self._credentials.password
        )
        while True:
            asked_at = self._loop.time()
            try:
                reply = await self.authenticate(request, LOG_IN_S_MAX)
            except (Unavailable, OutcomeUnknown) as error:
                # Asking again does no harm, whatever has become of the question before.
                self._trouble = error.message
                await asyncio.sleep(max(error.retry_after_s, self._backoff.next_s()))
            except RaftkvError as error:
                self._refuse(error)
                return
            else:
                self._take(reply.token, asked_at + reply.ttl_ms / 1_000 * RENEWAL_SHARE)
                return

    def _take(self, token: str, renew_at: float) -> None:
        self.token = token
        self._backoff.reset()
        self._drop_timer()
        self._renew_at = renew_at
        self._renewal = self._loop.call_at(renew_at, self.log_in)
        self._report()

    def _refuse(self, error: RaftkvError) -> None:
        """There is no use in asking again soon: the calls that wait for a token fail.

        A token that was to be replaced stays in use until a node refuses it.
        """
        self._doubtful = False
        self._refusal = error
        self._retry_at = self._loop.time() + max(error.retry_after_s, REFUSED_PAUSE_S)
        self._report()

    def _report(self) -> None:
        for callback in self.on_token:
            callback()

    def _drop_token(self) -> None:
        self.token = ""
        self._drop_timer()

    def _drop_timer(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None


async def _nothing(
    request: api_pb2.AuthenticateRequest, timeout_s: float
) -> api_pb2.AuthenticateReply:
    """Nothing is connected yet."""
    raise Unavailable("the client is not connected yet")
