"""Looking at the cluster and changing it."""

from __future__ import annotations

from collections.abc import Mapping

from raftkv.arguments import shown, to_flag, to_int64, to_text
from raftkv.client.connection.endpoints import parse_endpoints
from raftkv.client.connection.unary import UnaryRequest
from raftkv.client.core import Core
from raftkv.client.model.status import Member, NodeStatus, members_of
from raftkv.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    OutcomeUnknown,
    RaftkvError,
)
from raftkv.rpc.v1 import api_pb2

LOG_LEVELS = ("debug", "info", "warning", "error")


class ClusterMethods(Core):
    """The cluster's nodes. A change of membership that got no answer raises `OutcomeUnknown`."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The addresses that the client was given."""
        return tuple(endpoint.address for endpoint in self._endpoints.given)

    async def status(self, endpoint: str, *, timeout: float | None = None) -> NodeStatus:
        """What the node at `endpoint` says of itself. Needs no majority.

        Raises `ConnectionFailed` if it does not answer, `WrongCluster` if it is another cluster's.
        """
        address = _address(endpoint, "endpoint")
        return await self._unary.status(self._endpoints.get(address), self._timeout(timeout))

    async def status_all(
        self, *, timeout: float | None = None
    ) -> Mapping[str, NodeStatus | RaftkvError]:
        """By endpoint the client was given: what each node says of itself, or why it does not."""
        given = self._endpoints.given
        answers = await self._unary.statuses(given, self._timeout(timeout))
        return {each.address: answer for each, answer in zip(given, answers, strict=True)}

    async def member_list(self, *, timeout: float | None = None) -> tuple[Member, ...]:
        """The members of the cluster."""
        reply = await self._unary.call(
            "/raftkv.rpc.v1.Cluster/MemberList",
            api_pb2.MemberListRequest(),
            api_pb2.MemberListReply,
            self._timeout(timeout),
        )
        return members_of(reply)

    async def member_add(
        self,
        node_id: int,
        peer_address: str,
        client_address: str,
        *,
        force: bool = False,
        timeout: float | None = None,
    ) -> tuple[Member, ...]:
        """Add a node, as a learner; returns the new membership.

        Raises `MembershipRefused` while another change is under way, if the id or an address is
        taken or leads nowhere, and, without `force`, if too few voters acknowledge.
        """
        member = api_pb2.Member(
            node_id=to_int64(node_id, "node_id", 1),
            peer_address=_address(peer_address, "peer_address"),
            client_address=_address(client_address, "client_address"),
            learner=True,
        )
        request = api_pb2.MemberAddRequest(member=member, force=to_flag(force, "force"))
        return await self._change_members("MemberAdd", request, timeout)

    async def member_promote(
        self, node_id: int, *, force: bool = False, timeout: float | None = None
    ) -> tuple[Member, ...]:
        """Make a learner a voter; returns the new membership.

        Raises `MemberUnknown`, and `MembershipRefused` while it has not caught up or, without
        `force`, if too few voters acknowledge.
        """
        request = api_pb2.MemberPromoteRequest(
            node_id=to_int64(node_id, "node_id", 1), force=to_flag(force, "force")
        )
        return await self._change_members("MemberPromote", request, timeout)

    async def member_remove(
        self, node_id: int, *, force: bool = False, timeout: float | None = None
    ) -> tuple[Member, ...]:
        """Remove a node, which then stops itself; returns the new membership.

        Raises `MemberUnknown` and `MembershipRefused`, the latter also if, without `force`, too few
        of the voters that stay acknowledge.
        """
        request = api_pb2.MemberRemoveRequest(
            node_id=to_int64(node_id, "node_id", 1), force=to_flag(force, "force")
        )
        return await self._change_members("MemberRemove", request, timeout)

    async def member_replace(
        self, old_id: int, new_id: int, *, force: bool = False, timeout: float | None = None
    ) -> tuple[Member, ...]:
        """In one change, let the learner `new_id` vote in the place of `old_id`, which is removed.

        Returns the new membership, also if that was done before. Raises `MemberUnknown` and
        `MembershipRefused`; one with a `retry_after_s` is over once the learner has started and
        caught up (`facts["lag"]` entries are missing), or another change has ended.
        """
        request = api_pb2.MemberReplaceRequest(
            old_id=to_int64(old_id, "old_id", 1),
            new_id=to_int64(new_id, "new_id", 1),
            force=to_flag(force, "force"),
        )
        return await self._change_members("MemberReplace", request, timeout)

    async def member_update(
        self,
        node_id: int,
        *,
        peer_address: str = "",
        client_address: str = "",
        timeout: float | None = None,
    ) -> tuple[Member, ...]:
        """Say where a node is reached from now on; an empty address stays. Returns the membership.

        Raises `MemberUnknown`, and `MembershipRefused` if an address is taken or leads nowhere.
        """
        member = api_pb2.Member(
            node_id=to_int64(node_id, "node_id", 1),
            peer_address=_address(peer_address, "peer_address", or_none=True),
            client_address=_address(client_address, "client_address", or_none=True),
        )
        request = api_pb2.MemberUpdateRequest(member=member)
        return await self._change_members("MemberUpdate", request, timeout)

    async def transfer_leader(self, node_id: int = 0, *, timeout: float | None = None) -> int:
        """Make `node_id` the leader (0: the most up-to-date voter); returns who leads now.

        Raises `MemberUnknown` and `MembershipRefused`.
        """
        reply = await self._unary.call(
            "/raftkv.rpc.v1.Cluster/TransferLeader",
            api_pb2.TransferLeaderRequest(node_id=to_int64(node_id, "node_id", 0)),
            api_pb2.TransferLeaderReply,
            self._timeout(timeout),
            changes=True,
        )
        return reply.leader_id

    async def set_log_level(
        self, level: str, endpoint: str, *, timeout: float | None = None
    ) -> str:
        """Set the log level of the node at `endpoint` to debug, info, warning or error.

        Returns the level before. Raises `ConnectionFailed` if the node does not answer.
        """
        address = _address(endpoint, "endpoint")
        reply = await self._unary.ask(
            self._endpoints.get(address),
            "/raftkv.rpc.v1.Cluster/SetLogLevel",
            api_pb2.SetLogLevelRequest(level=_log_level(level)),
            api_pb2.SetLogLevelReply,
            self._timeout(timeout),
        )
        return reply.previous

    async def _change_members(
        self, method: str, request: UnaryRequest, timeout: float | None
    ) -> tuple[Member, ...]:
        try:
            reply = await self._unary.call(
                f"/raftkv.rpc.v1.Cluster/{method}",
                request,
                api_pb2.MemberListReply,
                self._timeout(timeout),
                changes=True,
            )
        except DeadlineExceeded as error:
            raise DeadlineExceeded(f"{error}; the membership was not changed") from None
        except OutcomeUnknown as error:
            raise OutcomeUnknown(
                f"the membership may have been changed, or may be yet ({error}); look at"
                " `raftkv member list` before you repeat it"
            ) from None
        return members_of(reply)


def _address(address: str, field: str, *, or_none: bool = False) -> str:
    """An address "host:port", or an empty one where that stands for none."""
    if not to_text(address, field) and or_none:
        return address
    try:
        (parsed,) = parse_endpoints([address])
    except ConfigurationError as error:
        raise InvalidRequest(
            f"{field} is {shown(address)}, which is no address ({error.message})", field=field
        ) from None
    return parsed


def _log_level(level: str) -> str:
    if to_text(level, "level") not in LOG_LEVELS:
        raise InvalidRequest(
            f"level is {shown(level)}; give one of {', '.join(LOG_LEVELS)}", field="level"
        )
    return level
