"""A cluster's id and incarnation as replies carry them. Knows values, no endpoints."""

from __future__ import annotations

from typing import NamedTuple

from raftkv.rpc import api_pb2


class ClusterIdentity(NamedTuple):
    """What tells two histories apart. 0 in either place: not known.

    The cluster id comes from the cluster's name and settings, the incarnation was drawn when it was
    founded: so a cluster that was founded anew under the same name has another incarnation.
    """

    cluster_id: int = 0
    incarnation: int = 0

    def contradicts(self, other: ClusterIdentity) -> bool:
        """Whether they differ in what both know."""
        return any(one and two and one != two for one, two in zip(self, other, strict=True))

    def completed_by(self, other: ClusterIdentity) -> ClusterIdentity:
        """This one, with what `other` knows in the places of what is not known."""
        return ClusterIdentity(
            self.cluster_id or other.cluster_id, self.incarnation or other.incarnation
        )

    def __str__(self) -> str:
        life = f" (incarnation {self.incarnation:016x})" if self.incarnation else ""
        return f"cluster {self.cluster_id:016x}{life}"


def identity_of(header: api_pb2.ReplyHeader) -> ClusterIdentity:
    """Who has answered, as a reply says it."""
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
    """Take the identity out of an error's facts; None: no node has answered."""
    cluster_id = facts.pop(CLUSTER_ID_FACT, "")
    incarnation = facts.pop(INCARNATION_FACT, "")
    if not cluster_id.isdigit() or not incarnation.isdigit():
        return None
    return ClusterIdentity(int(cluster_id), int(incarnation))
