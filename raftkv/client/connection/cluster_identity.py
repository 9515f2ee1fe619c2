"""Binds a client to one cluster: the one whose node answers first, for the client's whole life.

Another cluster, or the same settings founded anew, has another history: no revision, session, lock
or watch of the one is valid in the other. So only replies of the client's own cluster are used. An
endpoint that answers for another cluster is *foreign*: it is left out, and tried again from time to
time, as a node of the own cluster may return there.

The cluster is *gone* once only foreign endpoints answer: calls fail with `WrongCluster` at once,
watches end, and locks are lost. That is the case

- when every endpoint is foreign;
- when the others have failed since the own cluster answered last, and either an endpoint has become
  foreign since then, or most of the given endpoints are foreign. So an outage of the own cluster
  remains an outage, if an endpoint was left out long before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from raftkv.errors import WrongCluster
from raftkv.rpc.v1 import api_pb2

if TYPE_CHECKING:
    from raftkv.client.connection.endpoints import Endpoint, Endpoints


class ClusterBinding:
    """The identity of the client's cluster, and the state of its endpoints in respect of it."""

    def __init__(self, endpoints: Endpoints, retry_s: float) -> None:
        self.identity = ClusterIdentity()
        # Called when an endpoint becomes foreign or own again, and once the cluster is gone.
        self.on_event: Callable[[str, Endpoint], None] = _nothing
        self.on_gone: Callable[[WrongCluster], None] = _nothing
        self._endpoints = endpoints
        self._retry_s = retry_s
        # Since the own cluster answered last:
        self._in_doubt = False  # an endpoint has failed or become foreign
        self._turned = False  # an endpoint has become foreign
        self._gone = False  # `on_gone` was called

    def answered(self, endpoint: Endpoint, header: api_pb2.ReplyHeader, now: float) -> bool:
        """Note a reply's header; returns False if the reply is of another cluster and must not be
        used. To be called for each reply.
        """
        mine = self.identity
        if header.cluster_id != mine.cluster_id or header.incarnation != mine.incarnation:
            return self.identified(endpoint, identity_of(header), now)
        if self._in_doubt or endpoint.answers_for is not mine:
            self._own(endpoint)
        return True

    def identified(self, endpoint: Endpoint, identity: ClusterIdentity, now: float) -> bool:
        """As `answered`, of an identity that was not in the header of a reply."""
        if self.identity.contradicts(identity):
            self._foreign(endpoint, identity, now)
            return False
        completed = self.identity.completed_by(identity)
        if completed != self.identity:
            self.identity = completed
        if identity == completed:
            self._own(endpoint)
        else:  # the node does not know its whole identity, which proves nothing
            endpoint.answers_for, endpoint.foreign = identity, False
        return True

    def failed(self, endpoint: Endpoint, now: float) -> None:
        """An attempt at this endpoint got no answer."""
        endpoint.failed_since = self._in_doubt = True
        self._check_gone(now)

    def foreign_error(self, endpoint: Endpoint) -> WrongCluster:
        """Why a reply of this endpoint was not used."""
        return WrongCluster(
            f"{endpoint.address} answers for {endpoint.answers_for}, but this client belongs to"
            f" {self.identity}; connect a client of its own to the other cluster",
            endpoint=endpoint.address,
        )

    def gone(self, now: float) -> WrongCluster | None:
        """The error of every call if the cluster is gone; None if it may still answer.

        It may answer again once a foreign endpoint is due to be tried again.
        """
        if not self._in_doubt:
            return None
        foreign = 0
        for endpoint in self._endpoints.all:
            if endpoint.foreign:
                if now >= endpoint.ask_again_at:
                    return None
                foreign += endpoint.given
            elif not endpoint.failed_since:
                return None
        if not (self._turned or 2 * foreign > len(self._endpoints.given)):
            return None
        return WrongCluster(
            f"{self.identity}, to which this client belongs, is not there any more:"
            f" {self._described()}. Connect anew to use another cluster; what is known of this one"
            " (revisions, sessions, locks, tokens) means nothing there"
        )

    def two_clusters(self) -> WrongCluster | None:
        """The error of `connect` if the endpoints answer for more than one cluster."""
        if not any(endpoint.foreign for endpoint in self._endpoints.all):
            return None
        return WrongCluster(
            f"the endpoints do not belong to one cluster: {self._described()}; give those of one"
        )

    # ---- state ---------------------------------------------------------------------------

    def _own(self, endpoint: Endpoint) -> None:
        self._in_doubt = self._turned = self._gone = False
        for each in self._endpoints.all:
            each.failed_since = False
        endpoint.answers_for = self.identity
        if endpoint.foreign:
            endpoint.foreign = False
            self.on_event("endpoint_back", endpoint)

    def _foreign(self, endpoint: Endpoint, identity: ClusterIdentity, now: float) -> None:
        endpoint.ask_again_at = now + self._retry_s
        endpoint.failed_since = False
        if self._endpoints.leader is endpoint:
            self._endpoints.leader = None
        if not endpoint.foreign or endpoint.answers_for != identity:
            self._in_doubt = self._turned = True
            endpoint.answers_for, endpoint.foreign = identity, True
            self.on_event("endpoint_left_out", endpoint)
        self._check_gone(now)

    def _check_gone(self, now: float) -> None:
        if not self._gone and (error := self.gone(now)) is not None:
            self._gone = True
            self.on_gone(error)

    def _described(self) -> str:
        states: list[str] = []
        for endpoint in self._endpoints.all:
            if endpoint.answers_for is None or endpoint.failed_since:
                states.append(f"{endpoint.address} does not answer")
            else:
                states.append(f"{endpoint.address} answers for {endpoint.answers_for}")
        return ", ".join(states)


def _nothing(*_: object) -> None:
    """No callback is set."""


class ClusterIdentity(NamedTuple):
    """Distinguishes the histories of two clusters. 0 in either field: not known.

    The cluster id derives from the cluster's name and settings. The incarnation was drawn at random
    when the cluster was founded, so one that was founded anew has another incarnation.
    """

    cluster_id: int = 0
    incarnation: int = 0

    def contradicts(self, other: ClusterIdentity) -> bool:
        """Whether they differ in a field that both know."""
        return any(one and two and one != two for one, two in zip(self, other, strict=True))

    def completed_by(self, other: ClusterIdentity) -> ClusterIdentity:
        """This identity, with the fields of `other` where its own are not known."""
        return ClusterIdentity(
            self.cluster_id or other.cluster_id, self.incarnation or other.incarnation
        )

    def __str__(self) -> str:
        life = f" (incarnation {self.incarnation:016x})" if self.incarnation else ""
        return f"cluster {self.cluster_id:016x}{life}"


def identity_of(header: api_pb2.ReplyHeader) -> ClusterIdentity:
    """The identity in the header of a reply."""
    return ClusterIdentity(header.cluster_id, header.incarnation)


# The header of a call that ended with an error: the link puts it among the error's facts.
CLUSTER_ID_FACT = "cluster_id"
INCARNATION_FACT = "incarnation"


def identity_facts(header: api_pb2.ReplyHeader) -> dict[str, str]:
    """The header of an error, as facts."""
    return {
        CLUSTER_ID_FACT: str(header.cluster_id),
        INCARNATION_FACT: str(header.incarnation),
    }


def take_identity(facts: dict[str, str]) -> ClusterIdentity | None:
    """Remove the identity from an error's facts; None: no node has answered."""
    cluster_id = facts.pop(CLUSTER_ID_FACT, "")
    incarnation = facts.pop(INCARNATION_FACT, "")
    if not cluster_id.isdigit() or not incarnation.isdigit():
        return None
    return ClusterIdentity(int(cluster_id), int(incarnation))
