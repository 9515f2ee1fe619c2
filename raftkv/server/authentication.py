"""Who a call or a stream is from: tokens and certificates, and the user they stand for.

A session token is what `Auth.Authenticate` gives: a JSON web token, signed with a key that is
replicated, so every node accepts it. A service token is `rkv_<id>_<secret>`; the store has only a
hash of its secret. Both are sent as `authorization: Bearer <token>`.

Tokens expire in cluster time, continued by the node's own clock (`NodePort.auth_time_ms`): cluster
time alone stands still in an outage and on an idle cluster.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import grpc
import jwt

from raftkv.errors import Unauthenticated, Unavailable
from raftkv.kv.rights import Rights
from raftkv.rpc.v1 import auth_pb2
from raftkv.server.node_port import NodePort
from raftkv.tls.certificates import user_of_certificate

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

SESSION_TOKEN_TTL_MS: Final = 10 * 60_000
"""Short, because a session token can't be revoked alone: its user's next password ends it."""

FRESH_KEY_MS: Final = 60_000

TOKEN_BYTES_MAX: Final = 4096
CREDENTIALS_KEPT: Final = 4096
"""Verified tokens, so that a client's next call costs one look-up."""

NOT_APPLIED_RETRY_S: Final = 0.05

SERVICE_ID_BYTES: Final = 8

METADATA: Final = "authorization"
_BEARER: Final = "bearer "
_SERVICE_PREFIX: Final = "rkv_"
_ALGORITHM: Final = "HS256"
_ANY_TIME: Final[Any] = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
"""Our claims of time are in cluster time, which the library does not have."""


class CredentialKind(enum.Enum):
    """How a caller has proven who it is."""

    NONE = "none"
    SESSION_TOKEN = "session token"
    SERVICE_TOKEN = "service token"
    CERTIFICATE = "certificate"


class Claims(NamedTuple):
    """What a session token says. Times are in cluster time."""

    user: int
    credentials: int
    """`User.credentials` when the token was made: another password ends it."""

    revision: int
    """The revision of users, roles and tokens that the node had: another node may be behind it."""

    applied_index: int
    """The applied index of the node, whose entry has the stamp that `issued_ms` counts from."""

    issued_ms: int
    expires_ms: int


@dataclass(slots=True, eq=False)
class Credential:
    """What a call or stream was authenticated with. Its `repr` has no secret."""

    kind: CredentialKind
    claims: Claims | None = field(default=None, repr=False)
    """Of a session token."""

    key: auth_pb2.SigningKey | None = field(default=None, repr=False)
    """That has signed the session token."""

    token: auth_pb2.ServiceToken | None = field(default=None, repr=False)
    name: str = ""
    """The user that a certificate names."""

    rights: Rights | None = field(default=None, repr=False)
    """Those against which the credential was checked last."""

    user: int = 0
    """The user, under `rights`."""

    expires_ms: int = 0
    """In cluster time; 0: never."""


NO_CREDENTIAL: Final = Credential(CredentialKind.NONE)


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """Times of session tokens, in cluster time."""

    session_ttl_ms: int = SESSION_TOKEN_TTL_MS
    fresh_key_ms: int = FRESH_KEY_MS
    """A signing key signs from this age on, if there is one before it: until then every node that
    is not far behind has applied it.
    """


USUAL_TIMES: Final = TokenTimes()


class Authenticator:
    """Checks credentials against the users, tokens and signing keys that `node` has applied."""

    def __init__(self, node: NodePort, times: TokenTimes = USUAL_TIMES) -> None:
        self.times = times
        self._node = node
        self._kept: OrderedDict[str, Credential] = OrderedDict()
        """Verified tokens, the one used last at the end."""

    # ---- what a caller gives ---------------------------------------------------------

    def of_call(self, context: Context) -> Credential:
        """The credential of a call: its bearer token, or else its client certificate.

        Raises `Unauthenticated` for a token that is malformed, forged or expired, and `Unavailable`
        if this node has not applied yet what the token depends on.
        """
        for name, value in context.invocation_metadata() or ():
            if name == METADATA:
                return self.of_token(_bearer(value))
        named = user_of_certificate(context)
        return Credential(CredentialKind.CERTIFICATE, name=named) if named else NO_CREDENTIAL

    def of_token(self, token: str) -> Credential:
        """The credential of a token that a stream sends; empty: `NO_CREDENTIAL`. Raises as
        `of_call`.
        """
        if not token:
            return NO_CREDENTIAL
        credential = self._kept.get(token)
        if credential is None:
            if len(token) > TOKEN_BYTES_MAX:
                raise _invalid("it is too long")
            make = self._of_service if token.startswith(_SERVICE_PREFIX) else self._of_session
            credential = make(token)
            self._kept[token] = credential
            if len(self._kept) > CREDENTIALS_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(token)
        self.user_of(credential)
        return credential

    def _of_service(self, token: str) -> Credential:
        _, id, secret = (*token.split("_", 2), "", "")[:3]
        try:
            found = self._node.machine.rights.tokens.get(bytes.fromhex(id))
        except ValueError:
            raise _invalid("it has not the form of a service token") from None
        digest = hashlib.sha256(secret.encode()).digest()
        if found is None or not hmac.compare_digest(digest, found.secret_hash):
            raise Unauthenticated(
                "there is no such service token: it was revoked, has expired, or its user was"
                " deleted; create another one"
            )
        return Credential(CredentialKind.SERVICE_TOKEN, token=found, expires_ms=found.expires_ms)

    def _of_session(self, token: str) -> Credential:
        key = self._key_of(token)
        try:
            told = jwt.decode(token, key.secret, algorithms=[_ALGORITHM], options=_ANY_TIME)
            claims = Claims(**{name: int(told[name]) for name in Claims._fields})
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
            raise _invalid("its signature or its form is wrong") from None
        return Credential(CredentialKind.SESSION_TOKEN, claims, key, expires_ms=claims.expires_ms)

    def _key_of(self, token: str) -> auth_pb2.SigningKey:
        """The key that a session token names."""
        try:
            named = str(jwt.get_unverified_header(token).get("kid", ""))
        except jwt.InvalidTokenError:
            raise _invalid("it has not the form of a token") from None
        keys = self._node.machine.rights.signing_keys
        for key in keys:
            if named == self._name_of_key(key.id):
                return key
        incarnation, _, id = named.partition("-")
        newest = keys[0].id if keys else 0
        if incarnation == f"{self._node.incarnation:016x}" and id.isdecimal() and int(id) > newest:
            raise self._behind()
        raise Unauthenticated(
            "the key that signed the session token is not valid any more, or is that of another"
            " cluster; authenticate again"
        )

    def _name_of_key(self, id: int) -> str:
        """A cluster that was restored numbers its keys anew, and has another incarnation."""
        return f"{self._node.incarnation:016x}-{id}"

    # ---- whom it stands for ----------------------------------------------------------

    def user_of(self, credential: Credential) -> int:
        """The id of the user that the credential stands for now; 0 for none.

        Raises `Unauthenticated` if the token has expired or was revoked, or its user was deleted or
        has another password; `Unavailable` as `of_call`. Cheap while the rights are the same.
        """
        rights = self._node.machine.rights
        if credential.rights is not rights:
            # First: what raises must be checked again at the next call.
            credential.rights, credential.user = None, self._check(credential, rights)
            credential.rights = rights
        if credential.expires_ms and credential.expires_ms <= self._node.auth_time_ms:
            claims = credential.claims
            if claims is not None and claims.applied_index > self._node.machine.applied_index:
                # Cluster time stood still for a time that this node has counted.
                raise self._behind()
            raise Unauthenticated(f"the {credential.kind.value} has expired; authenticate again")
        return credential.user

    def _check(self, credential: Credential, rights: Rights) -> int:
        match credential.kind:
            case CredentialKind.SESSION_TOKEN:
                return self._check_session(credential, rights)
            case CredentialKind.SERVICE_TOKEN:
                return _check_service(credential, rights)
            case CredentialKind.CERTIFICATE:
                return rights.ids.get(credential.name, 0)
        return 0

    def _check_session(self, credential: Credential, rights: Rights) -> int:
        claims, key = credential.claims, credential.key
        if claims is None or key not in rights.signing_keys:
            raise Unauthenticated("the key of the session token is not valid; authenticate again")
        user = rights.users.get(claims.user)
        if user is not None and user.credentials == claims.credentials:
            return user.id
        if claims.revision > rights.revision:
            raise self._behind()
        raise Unauthenticated(
            "the user of the session token was deleted, or has another password since;"
            " authenticate again"
        )

    def _behind(self) -> Unavailable:
        return Unavailable(
            f"node {self._node.node_id} has not applied yet what the session token depends on; try"
            " again, here or at another node",
            retry_after_s=NOT_APPLIED_RETRY_S,
        )

    def name_of(self, credential: Credential) -> str:
        """The name of the user or of the certificate, for logs; empty for none. Never raises."""
        rights = self._node.machine.rights
        if credential.claims is not None:
            return rights.name_of(credential.claims.user)
        if credential.token is not None:
            return rights.name_of(credential.token.user)
        return credential.name

    # ---- new tokens ------------------------------------------------------------------

    def session_token(self, user: auth_pb2.User) -> str:
        """A token by which every node takes the caller for the user, for `times.session_ttl_ms`.

        Raises `Unavailable` if there is no signing key yet.
        """
        rights, now_ms = self._node.machine.rights, self._node.auth_time_ms
        expires_ms = now_ms + self.times.session_ttl_ms
        claims = Claims(
            user.id,
            user.credentials,
            rights.revision,
            self._node.machine.applied_index,
            now_ms,
            expires_ms,
        )
        key = self._signing_key(rights, now_ms)
        headers = {"kid": self._name_of_key(key.id)}
        return jwt.encode(claims._asdict(), key.secret, algorithm=_ALGORITHM, headers=headers)

    def _signing_key(self, rights: Rights, now_ms: int) -> auth_pb2.SigningKey:
        """The newest key, or the one before it while some node may not have applied the newest."""
        keys = rights.signing_keys
        if not keys:
            raise Unavailable(
                "there is no key yet that signs tokens: the leader makes one soon after the first"
                " user was added; try again",
                retry_after_s=0.2,
            )
        newest, *older = keys
        is_fresh = now_ms - newest.created_ms < self.times.fresh_key_ms
        return older[0] if older and is_fresh else newest

    def authenticated_ms_ago(self, credential: Credential) -> int | None:
        """The time since the caller has proven its password or certificate, None if it is not
        known: only a session token says it.
        """
        claims = credential.claims
        return None if claims is None else self._node.auth_time_ms - claims.issued_ms


def _check_service(credential: Credential, rights: Rights) -> int:
    token = credential.token
    if token is None or rights.tokens.get(token.id) != token:
        raise Unauthenticated(
            "the service token was revoked, or its user was deleted; create another one"
        )
    return token.user


def _bearer(value: str | bytes) -> str:
    text = value if isinstance(value, str) else ""
    if text[: len(_BEARER)].lower() != _BEARER or not (token := text[len(_BEARER) :].strip()):
        raise _invalid("the metadata `authorization` is not `Bearer <token>`")
    return token


def _invalid(why: str) -> Unauthenticated:
    return Unauthenticated(f"the token is not valid: {why}; authenticate again")


# ---- service tokens ------------------------------------------------------------------


class NewServiceToken(NamedTuple):
    """A service token as it is made: `text` is for its bearer, the rest for the store."""

    id: bytes
    text: str
    secret_hash: bytes


def new_service_token() -> NewServiceToken:
    """A token with a secret of 256 random bits."""
    id, secret = secrets.token_bytes(SERVICE_ID_BYTES), secrets.token_urlsafe(32)
    text = f"{_SERVICE_PREFIX}{id.hex()}_{secret}"
    return NewServiceToken(id, text, hashlib.sha256(secret.encode()).digest())
