"""Which node to talk to. Knows addresses, their breakers and who leads, nothing about requests."""

from __future__ import annotations

import random
from collections.abc import Sequence

from raftkv.client.connection.binding import ClusterBinding, ClusterIdentity
from raftkv.client.connection.link import Link, Links
from raftkv.client.connection.throttle import CircuitBreaker
from raftkv.client.settings import ClientSettings
from raftkv.errors import ConfigurationError
from raftkv.wire.addresses import HOST_PORT, split_host_port


def parse_endpoints(endpoints: str | Sequence[str]) -> tuple[str, ...]:
    """Addresses "host:port", separated by commas or in a sequence; doubles are dropped.

    Raises `ConfigurationError` for an empty list or an address that is none.
    """
    parts = endpoints.split(",") if isinstance(endpoints, str) else list(endpoints)
    addresses = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not addresses:
        raise ConfigurationError('no endpoint given; give at least one, as in "127.0.0.1:7411"')
    for address in addresses:
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
    """One node's front door, with what we have seen of it."""

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
        # See `ClusterBinding`:
        self.answers_for: ClusterIdentity | None = None  # what it said last
        self.foreign = False  # and that is not the client's cluster: it is left out until ...
        self.ask_again_at = 0.0
        self.failed_since = False  # the client's cluster has answered, here or elsewhere

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
        """The cluster says that its members listen here: ways out if all the given ones fail."""
        for address in addresses:
            if address and self._settings.follow_members:
                self.get(address)

    def ranked(self, now: float, avoid: Endpoint | None = None) -> list[Endpoint]:
        """All endpoints, the best first: the leader, then those that fail least, in random order.

        An advertised address may lead nowhere from here (a container's own name), so those come
        after the ones that the user gave; and those of another cluster after all the others.
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
        """It can't be reached, went away or fell silent."""
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
