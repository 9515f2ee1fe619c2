"""Which peers a node has links to: the members, and whoever has called and is to be answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from raftkv.transport.handshake import Caller


class Link(Protocol):
    """What the table needs to know of a link."""

    @property
    def address(self) -> str: ...

    def contacted(self) -> None:
        """The peer has just called us, so it lives."""


LinkT = TypeVar("LinkT", bound=Link)


class LinkTable(Generic[LinkT]):
    """Has links opened and closed as the membership changes and as peers call."""

    def __init__(
        self, open_link: Callable[[int, str], LinkT], close_link: Callable[[LinkT], None]
    ) -> None:
        self._open_link = open_link
        self._close_link = close_link
        self._links: dict[int, LinkT] = {}
        self._members: frozenset[int] = frozenset()
        self._callers: dict[int, str] = {}  # who has called us, and where they can be answered

    def __iter__(self) -> Iterator[tuple[int, LinkT]]:
        """Each peer that has a link, and its link."""
        return iter(self._links.items())

    def set_peers(self, addresses: Mapping[int, str]) -> None:
        """Open and close links so that they are exactly those (node id -> `host:port`), until
        somebody else who has called is to be answered.
        """
        for peer in self._members - addresses.keys():
            self._callers.pop(peer, None)
        self._members = frozenset(addresses)
        for peer, link in list(self._links.items()):
            if addresses.get(peer) != link.address:
                self._close_link(self._links.pop(peer))
        for peer, address in addresses.items():
            if peer not in self._links:
                self._open(peer, address)

    def contacted(self, caller: Caller) -> None:
        """A peer has called us: whatever kept our link to it down may be over.

        Somebody we have not heard of gets a link, too: a node that is behind, or has just
        been added, must be able to answer a leader that it does not know yet.
        """
        self._callers[caller.node_id] = caller.address
        link = self._links.get(caller.node_id)
        if link is not None:
            link.contacted()
        else:
            self._open(caller.node_id, caller.address)

    def get(self, peer: int) -> LinkT | None:
        """The link to this peer, if there is one."""
        return self._links.get(peer)

    def get_or_answer(self, peer: int) -> LinkT | None:
        """The link to this peer; it is opened for one that has called us."""
        link = self._links.get(peer)
        if link is None and peer in self._callers:
            # A node that catches up may pass a membership that its leader did not belong to yet;
            # without its answers the leader would never get it past that.
            link = self._open(peer, self._callers[peer])
        return link

    def close(self) -> None:
        """Close every link; nobody is answered any more."""
        for link in self._links.values():
            self._close_link(link)
        self._links.clear()
        self._callers.clear()

    def _open(self, peer: int, address: str) -> LinkT:
        link = self._links[peer] = self._open_link(peer, address)
        return link
