"""A new password for the user root from the disk of a node, where the password is lost.

    raftkv auth reset-root        the node, at its next start            every node
    root-reset.json written  -->  RootReset proposed into the log  -->  applied as any command

Users are replicated state: whoever changed them on one node alone would make it differ from the
others, and the running hash would stop it. So the node proposes the reset, which needs a majority
as every write. It proposes no reset twice: the id of the file is the command's idempotency key.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from secrets import token_hex
from typing import Final

from raftkv.errors import (
    ConfigurationError,
    OutcomeUnknown,
    RaftkvError,
    Refused,
    ShuttingDown,
    Unavailable,
)
from raftkv.files import sync_file, translated, write_durably
from raftkv.kv.limits import IDEMPOTENCY_TTL_MS_MAX
from raftkv.logs import Logger
from raftkv.rpc.v1 import auth_pb2, kv_pb2
from raftkv.server.audit import Audit
from raftkv.server.node_port import NodePort
from raftkv.server.passwords import hash_password
from raftkv.storage.directory import read_identity
from raftkv.wire.failures import only_result

FILE: Final = "root-reset.json"
TRY_S: Final = 10.0
RETRY_AFTER_S: Final = 1.0


def write_root_reset(data_dir: Path, password: str) -> Path:
    """Have the node of this data directory reset the user root at its next start.

    The file has a hash of the password. Raises `ConfigurationError` if this is not the data
    directory of a node, `InvalidRequest` for a password that can't be used, and `StorageError`.
    """
    if read_identity(data_dir) is None:
        raise ConfigurationError(
            f"{data_dir} is not the data directory of a node. Fix: name the data_dir of a node of"
            " the cluster, on the machine that has it."
        )
    reset = {"id": token_hex(16), "password_hash": hash_password(password)}
    path = data_dir / FILE
    with translated("writing the reset of root", data_dir):
        write_durably(path, json.dumps(reset).encode())
        owner = data_dir.stat()  # the node's user, who may not be the one that runs this
        os.chown(path, owner.st_uid, owner.st_gid)
    return path


class RootReset:
    """Carries out what `write_root_reset` left in the data directory of `node`."""

    def __init__(self, node: NodePort, data_dir: Path, audit: Audit, log: Logger) -> None:
        self._node = node
        self._path = data_dir / FILE
        self._audit = audit
        self._log = log

    async def run(self) -> None:
        """Propose the reset, if there is one, until it is applied, and remove the file.

        What fails is logged: the node serves without it.
        """
        try:
            content = self._read()
            if content is not None:
                await self._carry_out(content)
        except ShuttingDown:
            return  # the file stays for the next start
        except RaftkvError as error:
            self._log.error("root_not_reset", file=str(self._path), message=error.message)

    def _read(self) -> bytes | None:
        with translated("reading the reset of root", self._path):
            try:
                return self._path.read_bytes()
            except FileNotFoundError:
                return None

    async def _carry_out(self, content: bytes) -> None:
        try:
            await self._propose(_command(content))
        except Refused as error:
            self._audit.of_operator("Auth.RootReset", str(self._path), error)
            raise
        self._audit.of_operator("Auth.RootReset", str(self._path))
        with translated("removing the reset of root", self._path):
            self._path.unlink()
            sync_file(self._path.parent)

    async def _propose(self, command: kv_pb2.Command) -> None:
        """Raises what forbids the command, and `ShuttingDown`."""
        loop = asyncio.get_running_loop()
        batch = kv_pb2.CommandBatch(commands=[command]).SerializeToString()
        while True:
            try:
                only_result(await self._node.submit(batch, loop.time() + TRY_S))
            except ShuttingDown:
                raise
            except (Unavailable, OutcomeUnknown):
                await asyncio.sleep(RETRY_AFTER_S)  # perhaps there is no majority yet
            else:
                return


def _command(content: bytes) -> kv_pb2.Command:
    """Raises `ConfigurationError` for a file that `write_root_reset` has not written."""
    try:
        reset = json.loads(content)
        id, password_hash = str(reset["id"]), str(reset["password_hash"])
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"{FILE} in the data directory is not what `raftkv auth reset-root` writes. Fix: run it"
            " again, and restart the node."
        ) from None
    return kv_pb2.Command(
        auth=auth_pb2.AuthCommand(root_reset=auth_pb2.RootReset(password_hash=password_hash)),
        idempotency_key=f"root-reset-{id}".encode(),
        idempotency_ttl_ms=IDEMPOTENCY_TTL_MS_MAX,
    )
