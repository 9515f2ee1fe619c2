"""A node's settings: frozen, validated, each with its unit in its name.

Where the values come from (file, environment, flags) is `raftkv.config_sources`. A `Settings` that
exists is one that a node can start with; everything else is a `ConfigurationError` that names
the setting, what it is, its limit and the fix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from raftkv.config_checks import (
    FILES_NEEDED,
    OFF,
    REQUIRED,
    check_choice,
    check_range,
    check_tls,
    wrong,
)
from raftkv.kv.limits import Limits
from raftkv.raft.entry import Address
from raftkv.wire.addresses import (
    HOST_PORT,
    is_loopback_host,
    is_wildcard_host,
    split_host_port,
)

CLIENT_PORT_BASE = 7410
PEER_PORT_BASE = 7510
HTTP_PORT_BASE = 7610

# An entry has at least one whole batch, and a frame between nodes has at least one whole entry and
# must fit into one gRPC message.
BATCH_BYTES_MAX = 6 << 20

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("console", "json")


def setting(
    default: Any,
    doc: str,
    *,
    minimum: int | None = None,
    maximum: int | None = None,
    live: bool = False,
) -> Any:
    """A dataclass field with its description, its inclusive range, and whether it is `live`: a
    running node can change it.
    """
    return field(
        default=default,
        metadata={"doc": doc, "minimum": minimum, "maximum": maximum, "live": live},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a node.

    An empty address or data directory is derived from the node id. Without `initial_members` and
    `join` the node is a cluster of its own.
    """

    node_id: int = setting(
        1, "this node, unique in its cluster and never reused", minimum=1, maximum=2**63 - 1
    )
    cluster_name: str = setting("raftkv", "the same on every node of the cluster")
    data_dir: Path = setting(  # noqa: RUF009 - a field, as the others
        Path(),
        "where the log and the state live; default data/node-<node_id>",
    )
    client_listen: str = setting("", "host:port for clients; default 127.0.0.1:<7410 + node_id>")
    peer_listen: str = setting("", "host:port for other nodes; default 127.0.0.1:<7510 + node_id>")
    http_listen: str = setting(
        "",
        "host:port for probes and metrics, or off; default 127.0.0.1:<7610 + node_id>, off where"
        " that is no port",
    )
    client_advertise: str = setting("", "host:port that clients connect to; default client_listen")
    peer_advertise: str = setting("", "host:port that peers connect to; default peer_listen")
    initial_members: Mapping[int, Address] = field(
        default_factory=dict,
        metadata={"doc": "the cluster's first nodes: id=peer_host:port/client_host:port,..."},
    )
    bootstrap_without: str = setting(
        "",
        "comma-separated ids of initial members that will never start: found the cluster without"
        " them, although their disks can't be checked",
    )
    cluster_secret_file: str = setting(
        "",
        "file with the secret that authenticates nodes; the same on every node, required unless"
        " peer_tls is required or peer_listen is a loopback address",
    )
    client_cert_file: str = setting("", "certificate of the client port, PEM, then its chain")
    client_key_file: str = setting("", "key of client_cert_file, PEM, mode 0600")
    client_ca_file: str = setting(
        "",
        "certificates of the CAs that sign clients' certificates, PEM; several while one changes",
    )
    client_certificates: str = setting(
        "none", "certificates of clients: none, optional (verified if shown) or required"
    )
    client_tls: str = setting(
        "",
        "TLS on the client port: off, optional (plaintext too, while migrating) or required;"
        " default required where client_cert_file is set, off otherwise",
    )
    peer_cert_file: str = setting(
        "",
        "certificate of this node for other nodes, PEM, then its chain; names"
        " node-<node_id>.<cluster_name>.raftkv",
    )
    peer_key_file: str = setting("", "key of peer_cert_file, PEM, mode 0600")
    peer_ca_file: str = setting(
        "", "certificates of the CAs that sign nodes' certificates, PEM; several while one changes"
    )
    peer_tls: str = setting(
        "",
        "TLS on the peer port: off, optional (plaintext too, while migrating) or required;"
        " default required where peer_cert_file is set, off otherwise",
    )
    certificate_deny_file: str = setting(
        "",
        "serial numbers of certificates to refuse, hexadecimal, one per line; read when it changes",
    )
    join: str = setting(
        "", "comma-separated client addresses of members of a running cluster to join"
    )
    join_token_file: str = setting(
        "",
        "file with a token of a user with the right `cluster`, mode 0600: with it this node joins a"
        " cluster that requires authentication, if it has no certificate of a node",
    )
    open_health: bool = setting(
        True, "answer grpc.health.v1 to callers that are not authenticated as well", live=True
    )
    open_reflection: bool = setting(
        False, "answer gRPC reflection to callers that are not authenticated as well", live=True
    )
    allow_insecure_network: bool = setting(
        False, "listen off loopback although not everything is encrypted and authenticated"
    )
    tick_ms: int = setting(50, "length of a Raft tick", minimum=5, maximum=10_000)
    heartbeat_ticks: int = setting(2, "ticks between heartbeats", minimum=1, maximum=1_000)
    election_ticks_min: int = setting(
        10, "ticks without a leader before an election, least", minimum=2, maximum=10_000
    )
    election_ticks_max: int = setting(
        20, "ticks without a leader before an election, most", minimum=3, maximum=20_000
    )
    leader_lease: bool = setting(
        False,
        "allow reads of level leader_lease, which assume clock rates within 10 %; set it on every"
        " node, with the same timing, before the first such read",
    )
    uncommitted_bytes_max: int = setting(
        64 << 20,
        "proposals a leader holds before it refuses more",
        minimum=1 << 20,
        maximum=4 << 30,
    )
    submissions_in_flight_max: int = setting(
        4096, "batches of clients this node has in flight", minimum=1, maximum=1 << 20
    )
    requests_per_client_max: int = setting(
        1024, "requests one client connection has in flight", minimum=1, maximum=1 << 20, live=True
    )
    log_retained_bytes: int = setting(
        32 << 20, "log kept after a compaction for nodes that lag", minimum=0, maximum=1 << 40
    )
    log_compaction_bytes: int = setting(
        64 << 20, "log length that starts a compaction", minimum=1 << 16, maximum=1 << 40
    )
    history_revisions_min: int = setting(
        1_000,
        "revisions before the present one that automatic compaction leaves",
        minimum=0,
        maximum=1 << 40,
    )
    history_age_ms_max: int = setting(
        3_600_000,
        "automatic compaction of history that was superseded longer ago, in cluster time; 0: none"
        " for its age",
        minimum=0,
        maximum=366 * 24 * 3_600_000,
    )
    history_bytes_max: int = setting(
        1 << 30,
        "bytes of history above which automatic compaction removes the oldest; 0: none for its"
        " size, and all history is kept if history_age_ms_max is 0 as well",
        minimum=0,
        maximum=1 << 50,
    )
    disk_reserve_bytes: int = setting(
        128 << 20,
        "file in the data directory, at most an eighth of its disk, that is released so that a node"
        " on a full disk can start; with less than that free, puts are refused. 0: none",
        minimum=0,
        maximum=1 << 40,
    )
    watches_max: int = setting(
        100_000, "watches of all clients of this node", minimum=1, maximum=1 << 24, live=True
    )
    watches_per_stream_max: int = setting(
        10_000, "watches on one client's stream", minimum=1, maximum=1 << 20, live=True
    )
    watch_buffer_bytes_max: int = setting(
        4 << 20,
        "events buffered for a slow watch stream; further events are read from history",
        minimum=1 << 10,
        maximum=1 << 30,
        live=True,
    )
    watch_progress_interval_ms: int = setting(
        10_000,
        "interval of progress notifications to watches that request them",
        minimum=10,
        maximum=3_600_000,
    )
    request_timeout_ms_default: int = setting(
        5_000, "the timeout of a request that states none", minimum=1, maximum=3_600_000, live=True
    )
    request_timeout_ms_max: int = setting(
        60_000,
        "the longest timeout that a request may state",
        minimum=1,
        maximum=3_600_000,
        live=True,
    )
    log_level: str = setting("info", "debug, info, warning or error", live=True)
    log_format: str = setting("console", "console or json")
    trace_messages: str = setting(
        "",
        "file for each Raft message sent and received, with its vector clock; default: none."
        " Costs CPU, for debugging",
    )
    trace_messages_bytes_max: int = setting(
        64 << 20,
        "the trace keeps the last messages, in that file and one before it (.1)",
        minimum=1 << 16,
        maximum=1 << 40,
    )
    limits: Limits = field(default_factory=Limits, metadata={"doc": "bounds of requests"})

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int) and not isinstance(value, bool):
                check_range(each.name, value, each.metadata)
        self._check_words()
        self._check_timing()
        if self.limits.batch_bytes_max > BATCH_BYTES_MAX:
            raise wrong(
                "limits.batch_bytes_max",
                self.limits.batch_bytes_max,
                f"at most {BATCH_BYTES_MAX}",
                "lower it: nodes send each other a batch as one message",
            )
        self._check_members()
        self._fill_tls()
        self._fill_addresses()
        self._check_addresses()
        self._fill_members()
        if self.data_dir == Path():
            self._fill("data_dir", Path("data") / f"node-{self.node_id}")

    @property
    def cluster_id(self) -> int:
        """The id of the cluster's name on the wire: see `cluster_id_of`."""
        return cluster_id_of(self.cluster_name)

    @property
    def advertised(self) -> Address:
        """The addresses at which peers and clients reach this node."""
        return Address(self.peer_advertise, self.client_advertise)

    @property
    def bootstrap_without_ids(self) -> frozenset[int]:
        return frozenset(int(id) for id in self.bootstrap_without.split(",") if id.strip())

    def require_founder(self) -> None:
        """Raise `ConfigurationError` unless the initial members are a list with this node.

        The check is for a node with an empty data directory. Any other node has its identity on the
        disk, and the list only helps it to find its peers.
        """
        if self.initial_members.get(self.node_id) != self.advertised:
            self._refuse_foreign_members(self.advertised)
        missing = self.bootstrap_without_ids - self.initial_members.keys()
        if missing or self.node_id in self.bootstrap_without_ids:
            raise wrong(
                "bootstrap_without",
                self.bootstrap_without,
                "ids of other initial_members",
                "correct the ids",
            )

    def _fill(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_words(self) -> None:
        check_choice("log_level", self.log_level, LOG_LEVELS)
        check_choice("log_format", self.log_format, LOG_FORMATS)
        if not self.cluster_name.strip():
            raise wrong("cluster_name", "''", "at least one character", "leave it out or name it")

    def _check_timing(self) -> None:
        if self.election_ticks_min <= self.heartbeat_ticks:
            raise wrong(
                "election_ticks_min",
                self.election_ticks_min,
                f"more than heartbeat_ticks ({self.heartbeat_ticks})",
                "raise it, or followers stand for election between two heartbeats",
            )
        if self.election_ticks_max <= self.election_ticks_min:
            raise wrong(
                "election_ticks_max",
                self.election_ticks_max,
                f"more than election_ticks_min ({self.election_ticks_min})",
                "raise it, or elections collide",
            )
        if self.request_timeout_ms_max < self.request_timeout_ms_default:
            raise wrong(
                "request_timeout_ms_max",
                self.request_timeout_ms_max,
                f"at least request_timeout_ms_default ({self.request_timeout_ms_default})",
                "raise it or lower the default",
            )

    def _check_members(self) -> None:
        for node_id, address in self.initial_members.items():
            if node_id < 1:
                raise wrong("initial_members", node_id, "node ids >= 1", "number the nodes from 1")
            split_address("initial_members", address.peer)
            split_address("initial_members", address.client)

    def _fill_tls(self) -> None:
        for port in ("client", "peer"):
            if not getattr(self, f"{port}_tls"):
                has_certificate = bool(getattr(self, f"{port}_cert_file"))
                self._fill(f"{port}_tls", REQUIRED if has_certificate else OFF)
        check_tls(self)

    def _fill_addresses(self) -> None:
        own = self.initial_members.get(self.node_id)
        for kind, base in (("client", CLIENT_PORT_BASE), ("peer", PEER_PORT_BASE)):
            listen, advertise = f"{kind}_listen", f"{kind}_advertise"
            member = getattr(own, kind) if own else ""
            if not getattr(self, listen):
                if not member and base + self.node_id > 65_535:
                    raise wrong(
                        listen, "''", "host:port", "state it, the node id is too large to derive it"
                    )
                self._fill(listen, member or f"127.0.0.1:{base + self.node_id}")
            if not getattr(self, advertise):
                self._fill(advertise, member or getattr(self, listen))
        if not self.http_listen:
            port = HTTP_PORT_BASE + self.node_id
            self._fill("http_listen", f"127.0.0.1:{port}" if port <= 65_535 else OFF)

    def _check_addresses(self) -> None:
        for kind in ("client", "peer"):
            listen, advertise = f"{kind}_listen", f"{kind}_advertise"
            host, _ = split_address(listen, getattr(self, listen))
            if not is_loopback_host(host):
                self._check_off_loopback(kind, listen)
            host, _ = split_address(advertise, getattr(self, advertise))
            if is_wildcard_host(host):
                raise wrong(
                    advertise,
                    getattr(self, advertise),
                    "an address that others can connect to",
                    f"set {advertise} to this machine's name or address",
                )
        if self.has_http_port:
            self._check_http_listen()
        for address in self.addresses_to_join:
            split_address("join", address)
        ids = [id.strip() for id in self.bootstrap_without.split(",") if id.strip()]
        if not all(id.isascii() and id.isdigit() and len(id) < 20 for id in ids):
            raise wrong(
                "bootstrap_without",
                repr(self.bootstrap_without),
                "node ids with a comma between",
                "write it like 3 or 2,3",
            )
        if self.client_listen == self.peer_listen:
            raise wrong(
                "peer_listen", self.peer_listen, "other than client_listen", "choose another port"
            )

    def _check_http_listen(self) -> None:
        host, _ = split_address("http_listen", self.http_listen)
        if not is_loopback_host(host) and not self.http_tls and not self.allow_insecure_network:
            raise wrong(
                "http_listen",
                self.http_listen,
                "a loopback address, as client_tls is off and the HTTP port would not be encrypted",
                "set client_cert_file and client_key_file, whose certificate it shows too; or"
                " listen on 127.0.0.1; or on a trusted network set allow_insecure_network",
            )
        if self.http_listen in (self.client_listen, self.peer_listen):
            raise wrong(
                "http_listen",
                self.http_listen,
                "other than client_listen and peer_listen",
                "choose another port",
            )

    @property
    def has_http_port(self) -> bool:
        return self.http_listen != OFF

    @property
    def http_tls(self) -> bool:
        """Whether the HTTP port speaks TLS, with the certificate of the client port: off loopback
        only.
        """
        if not self.has_http_port or self.client_tls == OFF:
            return False
        host, _ = split_host_port(self.http_listen)
        return not is_loopback_host(host)

    def _check_off_loopback(self, kind: str, listen: str) -> None:
        if getattr(self, f"{kind}_tls") == REQUIRED:
            return
        if kind == "peer" and not self.cluster_secret_file:
            raise wrong(
                listen,
                getattr(self, listen),
                "a loopback address, as neither TLS nor a secret authenticates nodes and every"
                " process that reaches this port could act as one",
                "set peer_cert_file, peer_key_file and peer_ca_file (`raftkv certs init` and"
                " `raftkv certs node` write them); or write a secret with `raftkv secret new FILE`,"
                " copy it to every node, and set cluster_secret_file",
            )
        if not self.allow_insecure_network:
            files = ", ".join(f"{kind}_{each}_file" for each in FILES_NEEDED[kind])
            raise wrong(
                listen,
                getattr(self, listen),
                f"a loopback address, as {kind}_tls is {getattr(self, f'{kind}_tls')} and not"
                " everything on the wire is encrypted and authenticated",
                f"set {files} (`raftkv certs init` and `raftkv certs node` write them); or listen"
                " on 127.0.0.1; or on a trusted network set allow_insecure_network",
            )

    @property
    def addresses_to_join(self) -> list[str]:
        """Client addresses of the cluster to join; empty if `join` is unset."""
        return [each.strip() for each in self.join.split(",")] if self.join else []

    def _fill_members(self) -> None:
        own = Address(self.peer_advertise, self.client_advertise)
        if self.join and self.initial_members:
            raise wrong(
                "join", self.join, "unset where initial_members is set", "leave one of them out"
            )
        if not self.join and not self.initial_members:
            self._fill("initial_members", {self.node_id: own})
        self._fill("initial_members", MappingProxyType(dict(sorted(self.initial_members.items()))))

    def _refuse_foreign_members(self, own: Address) -> None:
        listed = self.initial_members.get(self.node_id)
        if listed is None:
            known = ", ".join(map(str, sorted(self.initial_members)))
            raise wrong(
                "initial_members",
                f"a list of nodes {known}"
                if len(self.initial_members) > 1
                else f"node {known} alone",
                f"a list with this node, {self.node_id}, in it",
                "correct node_id or the list, or use join to enter a running cluster",
            )
        raise wrong(
            "initial_members",
            f"{listed.peer}/{listed.client} for node {self.node_id}",
            f"what this node advertises, {own.peer}/{own.client}",
            "make peer_advertise and client_advertise agree with the list",
        )


LIVE_SETTINGS = tuple(each.name for each in fields(Settings) if each.metadata.get("live"))
"""The settings that a running node can change."""


def cluster_id_of(cluster_name: str) -> int:
    """The id of a cluster's name on the wire: 64 bits, never zero.

    Clusters with the same name have different incarnations.
    """
    digest = hashlib.sha256(cluster_name.encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


def split_address(key: str, address: str) -> tuple[str, int]:
    """Host and port of an address; an IPv6 host is in brackets. Raises `ConfigurationError`."""
    try:
        return split_host_port(address)
    except ValueError as error:
        raise wrong(key, repr(address), HOST_PORT, str(error)) from None


def default_of(each: Any) -> object:
    """The default of a dataclass field."""
    return each.default if each.default is not MISSING else cast(Any, each.default_factory)()
