"""The endpoints of a cluster: their addresses and state, and the choice of one for an attempt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from raftkv.backoff import Backoff
from raftkv.client.connection.cluster_identity import ClusterBinding, ClusterIdentity
from raftkv.client.connection.link import Link, Links
from raftkv.client.connection.throttle import CircuitBreaker
from raftkv.client.settings import ClientSettings
from raftkv.errors import ConfigurationError
from raftkv.wire.addresses import HOST_PORT, split_host_port

TLS_SCHEME: Final = "raftkvs://"


def split_scheme(endpoints: str | Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """The addresses of endpoints, and whether `raftkvs://` in front of them asks for TLS.

    In one text, a scheme in front of the first address holds for all that follow. Raises
    `ConfigurationError` as `parse_endpoints`, and if only some of the addresses are for TLS.
    """
    if isinstance(endpoints, str):
        whole = endpoints.strip()
        parts = whole.removeprefix(TLS_SCHEME).split(",")
        tls_for_all = whole.startswith(TLS_SCHEME)
    else:
        parts, tls_for_all = list(endpoints), False
    parts = [part.strip() for part in parts if part.strip()]
    with_tls = [part.startswith(TLS_SCHEME) for part in parts]
    if any(with_tls) and not all(with_tls) and not tls_for_all:
        raise ConfigurationError(
            f"some of the endpoints are for TLS ({TLS_SCHEME}) and some are not; a client connects"
            " to all nodes by TLS, or to none"
        )
    addresses = parse_endpoints([part.removeprefix(TLS_SCHEME) for part in parts])
    return addresses, tls_for_all or any(with_tls)


def parse_endpoints(endpoints: str | Sequence[str]) -> tuple[str, ...]:
    """Addresses "host:port", separated by commas or in a sequence; duplicates are dropped.

    Raises `ConfigurationError` for an empty list or an address that is none.
    """
    parts = endpoints.split(",") if isinstance(endpoints, str) else list(endpoints)
    addresses = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not addresses:
        raise ConfigurationError('no endpoint given; give at least one, as in "127.0.0.1:7411"')
    for address in addresses:
        if "@" in address:  # the address is not shown: it may have a password
            raise ConfigurationError(
                "an endpoint has an @, as if a user or password stood in it; write host:port alone,"
                " and give user= and password=, or RAFTKV_USER and RAFTKV_PASSWORD_FILE"
            )
        if "://" in address:
            raise ConfigurationError(
                f"endpoint {address!r} has a scheme; write host:port alone, as in 127.0.0.1:7411",
                endpoint=address,
            )
        try:
            split_host_port(address)
        except ValueError as error:
            raise ConfigurationError(
                f"endpoint {address!r} is not {HOST_PORT}; {error}", endpoint=address
            ) from None
    return addresses


class Endpoint:
    """One node's client address, with its link, its circuit breaker and its cluster."""

    __slots__ = (
        "address",
        "answers_for",
        "ask_again_at",
        "breaker",
        "failed_since",
        "foreign",
        "given",
        "link",
    )

    def __init__(self, address: str, link: Link, breaker: CircuitBreaker, given: bool) -> None:
        self.address = address
        self.link = link
        self.breaker = breaker
        self.given = given  # by the user; else learnt from the cluster's member list
        # The following are set by `ClusterBinding`.
        self.answers_for: ClusterIdentity | None = None  # the cluster of its last reply
        self.foreign = False  # that is not the client's cluster: not tried before `ask_again_at`
        self.ask_again_at = 0.0
        self.failed_since = False  # it failed since the client's cluster answered last

    def allows(self, now: float) -> bool:
        """Whether an attempt may start."""
        return self.breaker.allows(now) and (not self.foreign or now >= self.ask_again_at)


class Endpoints:
    """All the endpoints of a cluster: those the user gave, and those its members advertise."""

    def __init__(
        self, addresses: Sequence[str], links: Links, settings: ClientSettings, rng: random.Random
    ) -> None:
        self._links = links
        self._settings = settings
        self._rng = rng
        self._by_address: dict[str, Endpoint] = {}
        self.leader: Endpoint | None = None
        self.binding = ClusterBinding(self, settings.look_around_s)
        for address in addresses:
            self._add(address, given=True)

    def __len__(self) -> int:
        return len(self._by_address)

    @property
    def all(self) -> tuple[Endpoint, ...]:
        return tuple(self._by_address.values())

    @property
    def given(self) -> tuple[Endpoint, ...]:
        return tuple(endpoint for endpoint in self.all if endpoint.given)

    def get(self, address: str) -> Endpoint:
        """The endpoint with this address; one that is not known yet is added."""
        return self._by_address.get(address) or self._add(address, given=False)

    def learn(self, addresses: Sequence[str]) -> None:
        """Add the client addresses of the cluster's members: used if all the given ones fail."""
        for address in addresses:
            if address and self._settings.follow_members:
                self.get(address)

    def ranked(self, now: float, avoid: Endpoint | None = None) -> list[Endpoint]:
        """All endpoints, the best first: the leader, then those that fail least, in random order.

        An advertised address may be unreachable from here (a container's own name), so advertised
        ones come after the given ones, and those of another cluster come last.
        """
        order = self._rng.sample(self.all, len(self._by_address))
        order.sort(
            key=lambda endpoint: (
                not endpoint.allows(now),
                endpoint.foreign,
                endpoint is avoid,
                endpoint is not self.leader,
                not endpoint.given,
                endpoint.breaker.failures,
            )
        )
        return order

    def choose(self, now: float, avoid: Endpoint | None = None) -> Endpoint | None:
        """The best endpoint at which an attempt may start, or None."""
        best = self.ranked(now, avoid)[0]
        return best if best.allows(now) else None

    def next_probe_at(self) -> float:
        """When the first open breaker lets a probe through, or a foreign one is asked again."""
        return min(
            max(endpoint.breaker.retry_at, endpoint.ask_again_at if endpoint.foreign else 0.0)
            for endpoint in self.all
        )

    def failed(self, endpoint: Endpoint, now: float) -> None:
        """The endpoint can't be reached, has closed its stream or has fallen silent."""
        endpoint.breaker.failed(now)
        self.binding.failed(endpoint, now)

    async def close(self) -> None:
        """Close every link."""
        for endpoint in self.all:
            await endpoint.link.close()

    def _add(self, address: str, given: bool) -> Endpoint:
        breaker = CircuitBreaker(
            self._settings.breaker_failures_max, self._settings.breaker_cool_down_s
        )
        endpoint = Endpoint(address, self._links(address), breaker, given)
        self._by_address[address] = endpoint
        return endpoint


class EndpointSelector:
    """Moves one user of the endpoints (the pipeline, the watches, a unary call) from node to node.

    The endpoint that failed last is avoided, so the next attempt goes to another one at once. When
    as many attempts in a row have failed as there are endpoints, the next one waits for `backoff`.
    """

    def __init__(self, endpoints: Endpoints, settings: ClientSettings, rng: random.Random) -> None:
        self.backoff = Backoff(rng, settings.backoff_s_min, settings.backoff_s_max)
        self.failures = 0  # in a row
        self._endpoints = endpoints
        self._probe_delay_s = settings.backoff_s_min
        self._avoided: Endpoint | None = None
        self._unreachable: set[Endpoint] = set()  # since all of them were

    def choose(self, now: float) -> Endpoint | None:
        """The best endpoint at which an attempt may start; None: not before `next_attempt_at`."""
        return self._endpoints.choose(now, self._avoided)

    def choose_any(self, now: float) -> Endpoint:
        """As `choose`, but an open circuit breaker excludes no endpoint: there is always one.

        An endpoint that could not be reached comes again after all others only: the two last ones
        must not take turns if both are dead.
        """
        ranked = self._endpoints.ranked(now, self._avoided)
        return next((each for each in ranked if each not in self._unreachable), ranked[0])

    def next_attempt_at(self, now: float) -> float:
        """When `choose` may find an endpoint again that it does not find at `now`."""
        return max(now + self._probe_delay_s, self._endpoints.next_probe_at())

    def avoid(self, endpoint: Endpoint | None) -> None:
        """Prefer every other endpoint from now on; None: prefer none."""
        self._avoided = endpoint

    def failed(self, endpoint: Endpoint, *, unreachable: bool = False) -> bool:
        """An attempt failed; returns whether every endpoint has had one since the last success.

        `unreachable`: no connection could be made.
        """
        if endpoint in self._unreachable:
            self._unreachable.clear()
        if unreachable:
            self._unreachable.add(endpoint)
        self._avoided = endpoint
        self.failures += 1
        return self.failures >= len(self._endpoints)

    def answered(self) -> None:
        """A node has answered: the next failure is the first of a row."""
        self.failures = 0
        self.backoff.reset()
