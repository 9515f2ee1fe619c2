"""The security of `raftkv dev --secure`: certificates, authentication, and the user root."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Self

from raftkv.cli.certs_commands import CA, write_ca, write_node
from raftkv.cli.local_cluster import LocalNode
from raftkv.errors import Unauthenticated, UserExists
from raftkv.files import write_durably

if TYPE_CHECKING:
    from raftkv.client.client import Client

USER = "root"
DAYS = 90
PASSWORD_BYTES = 18
TIMEOUT_S = 10.0  # a node takes its time to hash a password


@dataclass(frozen=True, slots=True)
class DevSecurity:
    """The files with certificates and password, in one directory."""

    directory: Path

    @classmethod
    def of_cluster(cls, cluster: Sequence[LocalNode], directory: Path) -> Self:
        """Make the files that are missing, and new certificates for the nodes.

        Raises `ConfigurationError` if they can't be written.
        """
        security = cls(directory.resolve())
        if not security.ca_file.exists():
            write_ca(security.directory, cluster[0].cluster_name)
        for node in cluster:
            write_node(security.directory, node.node_id, None, DAYS)
        if not security.password_file.exists():
            password = secrets.token_urlsafe(PASSWORD_BYTES)
            write_durably(security.password_file, f"{password}\n".encode(), 0o600)
        return security

    @property
    def ca_file(self) -> Path:
        return self.directory / f"{CA}.pem"

    @property
    def password_file(self) -> Path:
        return self.directory / f"{USER}-password"

    def settings_of(self, node_id: int) -> list[str]:
        """The settings of a node, as flags of `raftkv serve`."""
        certificate = self.directory / f"node-{node_id}.pem"
        key = self.directory / f"node-{node_id}-key.pem"
        files = {"cert": certificate, "key": key, "ca": self.ca_file}
        settings = [
            f"{port}_{name}_file={file}"
            for port in ("client", "peer")
            for name, file in files.items()
        ]
        settings.append("client_certificates=optional")
        return [word for setting in settings for word in ("--set", setting)]

    async def connect(self, endpoints: str) -> Client:
        """A client that is logged in as root.

        On a new cluster it adds the user and enables authentication. Raises as
        `raftkv.connect`.
        """
        from raftkv.client.client import connect
        from raftkv.client.credentials import read_secret_file
        from raftkv.client.tls import Tls

        tls = Tls(self.ca_file)
        password = read_secret_file(self.password_file, "the password of root")
        try:
            async with connect(endpoints, timeout=TIMEOUT_S, tls=tls) as client:
                enabled = (await client.auth.status()).enabled
                if not enabled:
                    await _add_root(client, password)
        except Unauthenticated:
            enabled = True
        root = await connect(endpoints, timeout=TIMEOUT_S, tls=tls, user=USER, password=password)
        try:
            if not enabled:
                await root.auth.enable()
        except BaseException:
            await root.close()
            raise
        return root

    def usage(self, endpoints: str) -> list[str]:
        """Commands for a shell, after which `raftkv` and the Python client use the cluster."""
        return [
            f"  export RAFTKV_ENDPOINTS=raftkvs://{endpoints}",
            f"  export RAFTKV_CACERT={quote(str(self.ca_file))}",
            f"  export RAFTKV_USER={USER} RAFTKV_PASSWORD_FILE={quote(str(self.password_file))}",
        ]


async def _add_root(client: Client, password: str) -> None:
    """Add the user root; it may be there if this was interrupted before."""
    try:
        await client.auth.user_add(USER, password)
    except UserExists:
        await client.auth.user_set_password(USER, password)
    await client.auth.user_grant_role(USER, USER)
