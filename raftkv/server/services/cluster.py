"""`raftkv.rpc.v1.Cluster`: status, membership changes, leadership and log level, for operators."""

# ruff: noqa: N802 (gRPC finds a method by its name in the proto)

from __future__ import annotations

import asyncio
from pathlib import Path

from raftkv.errors import ConfigurationError, InvalidRequest
from raftkv.logs import set_level
from raftkv.node.addresses import require_connectable
from raftkv.node.status import NodeState
from raftkv.raft.entry import Address, Membership
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc
from raftkv.server import resources
from raftkv.server.calls import UnaryCall, UnaryCalls, act_call, admin_call, header_of
from raftkv.server.node_port import NodePort
from raftkv.server.reads import ReadHandler
from raftkv.server.reload import ReloadSettings, no_sources
from raftkv.versions import VersionRange


class ClusterService(api_pb2_grpc.ClusterServicer):
    """Status, SetLogLevel and ReloadConfig concern this node alone and need no majority."""

    def __init__(
        self, node: NodePort, reader: ReadHandler, calls: UnaryCalls, data_dir: Path
    ) -> None:
        self.calls = calls
        self._node = node
        self._reader = reader
        self._data_dir = data_dir
        self.reload_settings: ReloadSettings = no_sources
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()

    @admin_call("cluster.status")
    async def Status(self, _: api_pb2.StatusRequest, call: UnaryCall) -> api_pb2.StatusReply:
        reply = _status(self._node.status(), header_of(self._node))
        reply.version = resources.version()
        reply.memory_bytes = resources.memory_bytes()
        reply.disk_free_bytes = resources.disk_free_bytes(self._data_dir)
        reply.uptime_ms = round((self._loop.time() - self._started) * 1000)
        return reply

    @admin_call("cluster.member_list")
    async def MemberList(
        self, _: api_pb2.MemberListRequest, call: UnaryCall
    ) -> api_pb2.MemberListReply:
        await self._reader.confirm(api_pb2.READ_LEVEL_LINEARIZABLE, call.deadline)
        return self._members(self._node.membership)

    @act_call("cluster.member_add")
    async def MemberAdd(
        self, request: api_pb2.MemberAddRequest, call: UnaryCall
    ) -> api_pb2.MemberListReply:
        member = request.member
        _check_node_id("member.node_id", member.node_id)
        require_connectable("member.peer_address", member.peer_address)
        require_connectable("member.client_address", member.client_address)
        address = Address(member.peer_address, member.client_address)
        return self._members(
            await self._node.member_add(member.node_id, address, call.deadline, force=request.force)
        )

    @act_call("cluster.member_promote")
    async def MemberPromote(
        self, request: api_pb2.MemberPromoteRequest, call: UnaryCall
    ) -> api_pb2.MemberListReply:
        _check_node_id("node_id", request.node_id)
        return self._members(
            await self._node.member_promote(request.node_id, call.deadline, force=request.force)
        )

    @act_call("cluster.member_remove")
    async def MemberRemove(
        self, request: api_pb2.MemberRemoveRequest, call: UnaryCall
    ) -> api_pb2.MemberListReply:
        _check_node_id("node_id", request.node_id)
        return self._members(
            await self._node.member_remove(request.node_id, call.deadline, force=request.force)
        )

    @act_call("cluster.member_replace")
    async def MemberReplace(
        self, request: api_pb2.MemberReplaceRequest, call: UnaryCall
    ) -> api_pb2.MemberListReply:
        old_id, new_id = request.old_id, request.new_id
        _check_node_id("old_id", old_id)
        _check_node_id("new_id", new_id)
        if old_id == new_id:
            raise InvalidRequest(
                f"new_id is {new_id}, as old_id is, but an id is never used with a second disk;"
                " give a new id"
            )
        return self._members(
            await self._node.member_replace(old_id, new_id, call.deadline, force=request.force)
        )

    @act_call("cluster.member_update")
    async def MemberUpdate(
        self, request: api_pb2.MemberUpdateRequest, call: UnaryCall
    ) -> api_pb2.MemberListReply:
        member = request.member
        _check_node_id("member.node_id", member.node_id)
        address = Address(member.peer_address, member.client_address)
        if address == Address("", ""):
            raise InvalidRequest(
                "member has no address, so there is nothing to change; give member.peer_address,"
                " member.client_address or both"
            )
        if address.peer:
            require_connectable("member.peer_address", address.peer)
        if address.client:
            require_connectable("member.client_address", address.client)
        return self._members(await self._node.member_update(member.node_id, address, call.deadline))

    @act_call("cluster.member_join")
    async def MemberJoin(
        self, request: api_pb2.MemberJoinRequest, call: UnaryCall
    ) -> api_pb2.MemberListReply:
        _check_node_id("node_id", request.node_id)
        if not request.disk_id:
            raise InvalidRequest("disk_id is 0, but must be the id of the node's disk; give it")
        versions = VersionRange(request.version_min, request.version_max)
        if versions.minimum > versions.maximum:
            raise InvalidRequest(
                f"version_min is {versions.minimum}, but must be at most version_max"
                f" ({versions.maximum}); give the range of cluster versions of the node"
            )
        require_connectable("peer_address", request.peer_address)
        require_connectable("client_address", request.client_address)
        address = Address(request.peer_address, request.client_address)
        return self._members(
            await self._node.member_join(
                request.node_id, request.disk_id, versions, address, call.deadline
            )
        )

    @act_call("cluster.transfer_leader")
    async def TransferLeader(
        self, request: api_pb2.TransferLeaderRequest, call: UnaryCall
    ) -> api_pb2.TransferLeaderReply:
        leader_id = await self._node.transfer_leader(request.node_id, call.deadline)
        return api_pb2.TransferLeaderReply(header=header_of(self._node), leader_id=leader_id)

    @act_call("cluster.set_log_level")
    async def SetLogLevel(
        self, request: api_pb2.SetLogLevelRequest, call: UnaryCall
    ) -> api_pb2.SetLogLevelReply:
        try:
            previous = set_level(request.level)
        except ConfigurationError as error:
            raise InvalidRequest(error.message) from error
        return api_pb2.SetLogLevelReply(header=header_of(self._node), previous=previous)

    @act_call("cluster.reload_config")
    async def ReloadConfig(
        self, _: api_pb2.ReloadConfigRequest, call: UnaryCall
    ) -> api_pb2.ReloadConfigReply:
        try:
            reload = await self.reload_settings()
        except ConfigurationError as error:
            raise InvalidRequest(error.message) from error
        return api_pb2.ReloadConfigReply(
            header=header_of(self._node),
            changed=reload.changed,
            needs_restart=reload.needs_restart,
        )

    def _members(self, membership: Membership) -> api_pb2.MemberListReply:
        return api_pb2.MemberListReply(
            header=header_of(self._node), members=_members_of(membership)
        )


def _check_node_id(field: str, node_id: int) -> None:
    if not 1 <= node_id < 2**63:
        raise InvalidRequest(
            f"{field} is {node_id}, but must be from 1 to {2**63 - 1}; give the id of a node"
        )


def _members_of(membership: Membership) -> list[api_pb2.Member]:
    return [
        api_pb2.Member(
            node_id=node_id,
            peer_address=membership.addresses[node_id].peer,
            client_address=membership.addresses[node_id].client,
            learner=node_id in membership.learners,
            started=membership.started(node_id),
        )
        for node_id in sorted(membership.members)
    ]


def _status(status: NodeState, header: api_pb2.ReplyHeader) -> api_pb2.StatusReply:
    return api_pb2.StatusReply(
        header=header,
        cluster_version=status.cluster_version,
        not_serving=status.not_serving,
        notice=status.notice,
        role=api_pb2.Role.Name(status.role),
        leader_id=status.leader_id,
        learner=status.learner,
        commit_index=status.commit_index,
        applied_index=status.applied_index,
        first_log_index=status.first_log_index,
        last_log_index=status.last_log_index,
        compacted_revision=status.compacted_revision,
        cluster_time_ms=status.cluster_time_ms,
        disk_bytes=status.disk_bytes,
        members=_members_of(status.membership),
        peers=[
            api_pb2.PeerStatus(
                node_id=peer.node_id,
                reachability=api_pb2.Reachability.Name(peer.reachability),
                last_contact_ms=peer.last_contact_ms,
                match_index=peer.match_index,
                replication=peer.replication,
            )
            for peer in status.peers
        ],
    )
