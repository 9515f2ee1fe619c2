"""Which peers a node has links to: the members, and whoever has called and is to be answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from raftkv.transport.handshake import Caller


class Link(Protocol):
    """What the table needs to know of a link."""

    def readdress(self, addresses: Sequence[str]) -> None:
        """The peer is at one of these, most likely at the first."""

    def contacted(self) -> None:
        """The peer has just called us, so it lives."""


LinkT = TypeVar("LinkT", bound=Link)


STRANGERS_MAX = 8
"""Callers that are no members here and get a link all the same: a node that catches up has few."""


class LinkTable(Generic[LinkT]):
    """Has links opened and closed as the membership changes and as peers call.

    A peer is looked for where it says itself that it is, then where the membership says, then at
    its hint, an address from this node's settings.
    """

    def __init__(
        self,
        open_link: Callable[[int, Sequence[str]], LinkT],
        close_link: Callable[[LinkT], None],
        hints: Mapping[int, str] | None = None,
    ) -> None:
        self._open_link = open_link
        self._close_link = close_link
        self._links: dict[int, LinkT] = {}
        self._members: dict[int, str] = {}  # where the membership says that they are
        self._callers: dict[int, str] = {}  # who has called us, and where they can be answered
        self._hints = hints or {}
        self._closed = False

    def __iter__(self) -> Iterator[tuple[int, LinkT]]:
        """Each peer that has a link, and its link."""
        return iter(self._links.items())

    def set_peers(self, addresses: Mapping[int, str]) -> None:
        """Open and close links so that they are exactly those (node id -> `host:port`), until
        somebody else who has called is to be answered.
        """
        if self._closed:
            return
        for peer in self._members.keys() - addresses.keys():
            self._callers.pop(peer, None)
        self._members = dict(addresses)
        for peer in self._links.keys() - addresses.keys():
            self._close_link(self._links.pop(peer))
        for peer in addresses:
            if peer in self._links:
                self._links[peer].readdress(self._addresses_of(peer))
            else:
                self._open(peer)

    def contacted(self, caller: Caller) -> None:
        """A peer has called us: whatever kept our link to it down may be over.

        Somebody we have not heard of gets a link, too: a node that is behind, or has just
        been added, must be able to answer a leader that it does not know yet.
        """
        if self._closed:
            return
        peer = caller.node_id
        self._callers.pop(peer, None)
        self._callers[peer] = caller.address.peer
        strangers = [each for each in self._callers if each not in self._members]
        if len(strangers) > STRANGERS_MAX:
            self._forget(strangers[0])
        link = self._links.get(peer)
        if link is not None:
            link.readdress(self._addresses_of(peer))
            link.contacted()
        else:
            self._open(peer)

    def get(self, peer: int) -> LinkT | None:
        """The link to this peer, if there is one."""
        return self._links.get(peer)

    def get_or_answer(self, peer: int) -> LinkT | None:
        """The link to this peer; it is opened for one that has called us."""
        link = self._links.get(peer)
        if link is None and peer in self._callers:
            # A node that catches up may pass a membership that its leader did not belong to yet;
            # without its answers the leader would never get it past that.
            link = self._open(peer)
        return link

    def close(self) -> None:
        """Close every link; nobody is answered any more, whoever may still call."""
        self._closed = True
        for link in self._links.values():
            self._close_link(link)
        self._links.clear()
        self._callers.clear()

    def _forget(self, stranger: int) -> None:
        del self._callers[stranger]
        link = self._links.pop(stranger, None)
        if link is not None:
            self._close_link(link)

    def _open(self, peer: int) -> LinkT:
        link = self._links[peer] = self._open_link(peer, self._addresses_of(peer))
        return link

    def _addresses_of(self, peer: int) -> Sequence[str]:
        places = (self._callers.get(peer), self._members.get(peer), self._hints.get(peer))
        return tuple(dict.fromkeys(address for address in places if address))
