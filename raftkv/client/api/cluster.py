"""The client's methods for the nodes of the cluster: status, membership, leadership."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from raftkv.arguments import shown, to_flag, to_int64, to_text
from raftkv.client.connection.endpoints import parse_endpoints
from raftkv.client.connection.unary import UnaryRequest
from raftkv.client.core import Core
from raftkv.client.model.status import (
    ConfigReload,
    Member,
    NodeStatus,
    SettingChange,
    members_of,
)
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
    """The nodes of the cluster: their status, and changes of the membership."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The addresses that the client was given."""
        return tuple(endpoint.address for endpoint in self._endpoints.given)

    async def status(self, endpoint: str, *, timeout: float | None = None) -> NodeStatus:
        """The status of the node at `endpoint`, as that node reports it. Needs no majority.

        - `endpoint`: "host:port".
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `ConnectionFailed` if the node does not answer in time; `WrongCluster` if it belongs
        to another cluster; `InvalidRequest`. Costs one request to that node.
        """
        address = _address(endpoint, "endpoint")
        return await self._unary.status(self._endpoints.get(address), self._timeout(timeout))

    async def status_all(
        self, *, timeout: float | None = None
    ) -> Mapping[str, NodeStatus | RaftkvError]:
        """By endpoint that the client was given: the status of its node, or the error with which
        that failed.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Needs no majority. Costs one request to each endpoint, at the same time.
        """
        given = self._endpoints.given
        answers = await self._unary.statuses(given, self._timeout(timeout))
        return {each.address: answer for each, answer in zip(given, answers, strict=True)}

    async def member_list(self, *, timeout: float | None = None) -> tuple[Member, ...]:
        """The members of the cluster, with learners.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `DeadlineExceeded` and `WrongCluster`. Costs one request.
        """
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

        - `node_id`: a number from 1 that no node of the cluster has ever had.
        - `peer_address`, `client_address`: "host:port" at which the other nodes, and clients, reach
          it.
        - `force`: do it although too few voters acknowledge at present.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `MembershipRefused` while another change is under way, if the id or an address is
        taken or can't be reached, or without `force` if too few voters acknowledge;
        `InvalidRequest` for a wrong argument; `DeadlineExceeded` if the membership was not changed;
        `OutcomeUnknown` if it may have been changed, or may be yet; `WrongCluster`. Costs an entry
        of the log for the new membership.
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

        - `node_id`: the learner.
        - `force`: do it although too few voters acknowledge at present.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `MemberUnknown`; `MembershipRefused` while another change is under way, while the
        learner has not caught up, or without `force` if too few voters acknowledge;
        `InvalidRequest` for a wrong argument; `DeadlineExceeded` if the membership was not changed;
        `OutcomeUnknown` if it may have been changed, or may be yet; `WrongCluster`. Costs an entry
        of the log for the new membership.
        """
        request = api_pb2.MemberPromoteRequest(
            node_id=to_int64(node_id, "node_id", 1), force=to_flag(force, "force")
        )
        return await self._change_members("MemberPromote", request, timeout)

    async def member_remove(
        self, node_id: int, *, force: bool = False, timeout: float | None = None
    ) -> tuple[Member, ...]:
        """Remove a node, which then stops itself; returns the new membership.

        - `node_id`: the node; its id can't be used again.
        - `force`: do it although too few voters acknowledge at present.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `MemberUnknown`; `MembershipRefused` while another change is under way, or without
        `force` if too few of the voters that stay acknowledge; `InvalidRequest` for a wrong
        argument; `DeadlineExceeded` if the membership was not changed; `OutcomeUnknown` if it may
        have been changed, or may be yet; `WrongCluster`. Costs an entry of the log for the new
        membership.
        """
        request = api_pb2.MemberRemoveRequest(
            node_id=to_int64(node_id, "node_id", 1), force=to_flag(force, "force")
        )
        return await self._change_members("MemberRemove", request, timeout)

    async def member_replace(
        self, old_id: int, new_id: int, *, force: bool = False, timeout: float | None = None
    ) -> tuple[Member, ...]:
        """In one change, make the learner `new_id` a voter in the place of `old_id`, which is
        removed.

        - `old_id`: the voter to remove. `new_id`: a learner.
        - `force`: do it although too few voters acknowledge at present.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Returns the new membership, also if that was done before. Raises `MemberUnknown`;
        `MembershipRefused`, with a `retry_after_s` while the learner has not started or caught up
        (`facts["lag"]` entries are missing) or another change is under way; `InvalidRequest` for a
        wrong argument; `DeadlineExceeded` if the membership was not changed; `OutcomeUnknown` if it
        may have been changed, or may be yet; `WrongCluster`. Costs an entry of the log for the new
        membership.
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
        """Change the addresses at which a node is reached; returns the new membership.

        - `node_id`: the node.
        - `peer_address`, `client_address`: "host:port"; empty: as before.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `MemberUnknown`; `MembershipRefused` while another change is under way, or if an
        address is taken or can't be reached; `InvalidRequest` for a wrong argument;
        `DeadlineExceeded` if the membership was not changed; `OutcomeUnknown` if it may have been
        changed, or may be yet; `WrongCluster`. Costs an entry of the log for the new membership.
        """
        member = api_pb2.Member(
            node_id=to_int64(node_id, "node_id", 1),
            peer_address=_address(peer_address, "peer_address", or_none=True),
            client_address=_address(client_address, "client_address", or_none=True),
        )
        request = api_pb2.MemberUpdateRequest(member=member)
        return await self._change_members("MemberUpdate", request, timeout)

    async def transfer_leader(self, node_id: int = 0, *, timeout: float | None = None) -> int:
        """Make `node_id` the leader; returns the id of the node that leads now.

        - `node_id`: a voter; 0: the most up-to-date voter.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `MemberUnknown`; `MembershipRefused` if the node can't lead now; `InvalidRequest`;
        `DeadlineExceeded`; `OutcomeUnknown`; `WrongCluster`. Writes wait for the new leader,
        usually for some milliseconds.
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
        """Set the log level of one node; returns the level before.

        - `level`: "debug", "info", "warning" or "error".
        - `endpoint`: "host:port" of the node.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `ConnectionFailed` if the node does not answer in time; `WrongCluster`;
        `InvalidRequest`. Lasts until the node stops.
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

    async def reload_config(self, endpoint: str, *, timeout: float | None = None) -> ConfigReload:
        """Let one node read its settings again from its file, environment and flags.

        - `endpoint`: "host:port" of the node.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `ConnectionFailed` if the node does not answer in time; `WrongCluster`;
        `InvalidRequest` if a setting is invalid: then nothing changes.
        """
        reply = await self._unary.ask(
            self._endpoints.get(_address(endpoint, "endpoint")),
            "/raftkv.rpc.v1.Cluster/ReloadConfig",
            api_pb2.ReloadConfigRequest(),
            api_pb2.ReloadConfigReply,
            self._timeout(timeout),
        )
        return ConfigReload(_changes_of(reply.changed), _changes_of(reply.needs_restart))

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


def _changes_of(changes: Iterable[api_pb2.SettingChange]) -> tuple[SettingChange, ...]:
    return tuple(SettingChange(each.name, each.before, each.after) for each in changes)


def _log_level(level: str) -> str:
    if to_text(level, "level") not in LOG_LEVELS:
        raise InvalidRequest(
            f"level is {shown(level)}; give one of {', '.join(LOG_LEVELS)}", field="level"
        )
    return level
