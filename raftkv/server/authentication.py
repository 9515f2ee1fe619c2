"""Who a call or a stream is from: tokens and certificates, and the user they stand for.

A session token is what `Auth.Authenticate` gives: a JSON web token, signed with a key that is
replicated, so every node accepts it. A service token is `rkv_<id>_<secret>`; the store has only a
hash of its secret. Both are sent as `authorization: Bearer <token>`.
"""

from __future__ import annotations

import binascii
import enum
import hashlib
import hmac
import ipaddress
import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import jwt

from raftkv.errors import Unauthenticated, Unavailable
from raftkv.kv.rights import Rights
from raftkv.rpc.v1 import auth_pb2
from raftkv.server.node_port import NodePort

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class CredentialKind(enum.Enum):
    """How a caller has proven who it is."""

    NONE = "none"
    SESSION_TOKEN = "session token"  # of Authenticate
    SERVICE_TOKEN = "service token"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Credential:
    """What a call or stream was authenticated with."""

    kind: CredentialKind


NO_CREDENTIAL: Final = Credential(CredentialKind.NONE)


class Authenticator:
    """Checks credentials against the rights of `node`."""

    def __init__(self, node: NodePort) -> None: ...

    def of_call(self, context: Context) -> Credential:
        """The credential of a call: its bearer token, or else its client certificate.

        Raises `Unauthenticated` for a token that is malformed, forged or expired, and `Unavailable`
        if this node has not applied yet what the token depends on.
        """
        raise NotImplementedError

    def of_token(self, token: str) -> Credential:
        """The credential of a token that a stream sends; empty: `NO_CREDENTIAL`. Raises as
        `of_call`.
        """
        raise NotImplementedError

    def user_of(self, credential: Credential) -> int:
        """The id of the user that the credential stands for now; 0 for none.

        Raises `Unauthenticated` if the token has expired or was revoked, or its user was deleted or
        has another password. One comparison while the rights are the same.
        """
        raise NotImplementedError

    def name_of(self, credential: Credential) -> str:
        """The name of the user or of the certificate, for logs; empty for none. Never raises."""
        raise NotImplementedError
