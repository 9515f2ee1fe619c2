"""A scripted cluster that serves authenticated callers only, by tokens that end."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import count

from raftkv.client.client import Client, connect
from raftkv.client.connection.cluster_identity import identity_facts
from raftkv.client.connection.unary import AUTHENTICATE
from raftkv.errors import RaftkvError, Unauthenticated
from raftkv.rpc.v1 import api_pb2
from tests.client.scripted import ScriptedCluster, ScriptedLink, ScriptedStream, failure_of

TTL_S = 30.0


@dataclass
class LogIn:
    """A request for a token that arrived at a node."""

    at: float
    node: str
    password: str


class AuthenticatingCluster(ScriptedCluster):
    """Its only user is ann."""

    def __init__(self, *addresses: str) -> None:
        super().__init__(*addresses)
        self.password = "right"
        self.valid_until: dict[str, float] = {}  # by token
        self.log_ins: list[LogIn] = []
        self.log_in_refusal: RaftkvError | None = None
        self.stream_tokens: list[str] = []  # sent inside of streams
        self.refuse_streams_at_once = (
            False  # with a status, as a node does that checks at the start
        )
        self._names = count(1)

    async def connect_as(self, password: str = "", token: str = "", timeout: float = 5.0) -> Client:
        return await connect(
            list(self.nodes),
            timeout=timeout,
            user="ann" if password else None,
            password=password,
            token=token,
            links=self.link,
            rng=random.Random(7),
        )

    def link(self, address: str) -> AuthenticatingLink:
        return AuthenticatingLink(self.nodes[address])

    def new_token(self, ttl_s: float = TTL_S) -> str:
        token = f"token-{next(self._names)}"
        self.valid_until[token] = self.loop.time() + ttl_s
        return token

    def end_tokens(self) -> None:
        """As a change of the password that is undone at once."""
        self.valid_until.clear()

    def refusal_of(self, token: str) -> Unauthenticated | None:
        if self.loop.time() < self.valid_until.get(token, -1.0):
            return None
        return Unauthenticated("the token is not valid")

    def handle(self, stream: ScriptedStream, message: bytes) -> None:
        request = api_pb2.PipelineRequest.FromString(message)
        refusal = self.refusal_of(request.token or stream.token)
        if request.token:
            self.stream_tokens.append(request.token)
            stream.token = request.token
        if refusal is not None and self.refuse_streams_at_once and not request.number:
            stream.end(refusal)
        elif refusal is not None or request.token:
            reply = api_pb2.PipelineReply(number=request.number, header=stream.node.header())
            if refusal is not None:
                reply.failure.CopyFrom(failure_of(refusal))
            stream.deliver(reply.SerializeToString())
        else:
            super().handle(stream, message)

    def authenticate(self, node: str, request: api_pb2.AuthenticateRequest) -> bytes:
        self.log_ins.append(LogIn(self.loop.time(), node, request.password))
        refusal = self.log_in_refusal
        if refusal is None and (request.password != self.password or request.name != "ann"):
            refusal = Unauthenticated("name or password is wrong")
        if refusal is not None:
            refusal.facts |= identity_facts(self.nodes[node].header())
            raise refusal
        return api_pb2.AuthenticateReply(
            header=self.nodes[node].header(), token=self.new_token(), ttl_ms=int(TTL_S * 1000)
        ).SerializeToString()


class AuthenticatingLink(ScriptedLink):
    """A link to a node that checks tokens."""

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        answer = await super().call(method, request, timeout_s)
        node, cluster = self._node, self._node.cluster
        assert isinstance(cluster, AuthenticatingCluster)
        if method == AUTHENTICATE:
            return cluster.authenticate(
                node.address, api_pb2.AuthenticateRequest.FromString(request)
            )
        if (refusal := cluster.refusal_of(token)) is not None:
            refusal.facts |= identity_facts(node.header())
            raise refusal
        return answer
