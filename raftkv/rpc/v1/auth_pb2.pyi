from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Access(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESS_UNSPECIFIED: _ClassVar[Access]
    ACCESS_READ: _ClassVar[Access]
    ACCESS_WRITE: _ClassVar[Access]
    ACCESS_READWRITE: _ClassVar[Access]

class AdminRight(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ADMIN_RIGHT_UNSPECIFIED: _ClassVar[AdminRight]
    ADMIN_RIGHT_CLUSTER: _ClassVar[AdminRight]
    ADMIN_RIGHT_MAINTENANCE: _ClassVar[AdminRight]
    ADMIN_RIGHT_AUTH: _ClassVar[AdminRight]
    ADMIN_RIGHT_SESSIONS: _ClassVar[AdminRight]
ACCESS_UNSPECIFIED: Access
ACCESS_READ: Access
ACCESS_WRITE: Access
ACCESS_READWRITE: Access
ADMIN_RIGHT_UNSPECIFIED: AdminRight
ADMIN_RIGHT_CLUSTER: AdminRight
ADMIN_RIGHT_MAINTENANCE: AdminRight
ADMIN_RIGHT_AUTH: AdminRight
ADMIN_RIGHT_SESSIONS: AdminRight

class Permission(_message.Message):
    __slots__ = ("access", "key", "range_end")
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANGE_END_FIELD_NUMBER: _ClassVar[int]
    access: Access
    key: bytes
    range_end: bytes
    def __init__(self, access: _Optional[_Union[Access, str]] = ..., key: _Optional[bytes] = ..., range_end: _Optional[bytes] = ...) -> None: ...

class AuthRole(_message.Message):
    __slots__ = ("name", "permissions", "admin_rights")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    ADMIN_RIGHTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    permissions: _containers.RepeatedCompositeFieldContainer[Permission]
    admin_rights: _containers.RepeatedScalarFieldContainer[AdminRight]
    def __init__(self, name: _Optional[str] = ..., permissions: _Optional[_Iterable[_Union[Permission, _Mapping]]] = ..., admin_rights: _Optional[_Iterable[_Union[AdminRight, str]]] = ...) -> None: ...

class User(_message.Message):
    __slots__ = ("id", "name", "password_hash", "roles", "credentials")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_HASH_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    password_hash: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    credentials: int
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., password_hash: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., credentials: _Optional[int] = ...) -> None: ...

class ServiceToken(_message.Message):
    __slots__ = ("id", "user", "secret_hash", "expires_ms", "created_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    SECRET_HASH_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    user: int
    secret_hash: bytes
    expires_ms: int
    created_ms: int
    def __init__(self, id: _Optional[bytes] = ..., user: _Optional[int] = ..., secret_hash: _Optional[bytes] = ..., expires_ms: _Optional[int] = ..., created_ms: _Optional[int] = ...) -> None: ...

class SigningKey(_message.Message):
    __slots__ = ("id", "secret", "created_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    id: int
    secret: bytes
    created_ms: int
    def __init__(self, id: _Optional[int] = ..., secret: _Optional[bytes] = ..., created_ms: _Optional[int] = ...) -> None: ...

class AuthState(_message.Message):
    __slots__ = ("enabled", "revision")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    revision: int
    def __init__(self, enabled: _Optional[bool] = ..., revision: _Optional[int] = ...) -> None: ...

class AuthEnable(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuthDisable(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UserAdd(_message.Message):
    __slots__ = ("name", "password_hash")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_HASH_FIELD_NUMBER: _ClassVar[int]
    name: str
    password_hash: str
    def __init__(self, name: _Optional[str] = ..., password_hash: _Optional[str] = ...) -> None: ...

class UserDelete(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UserSetPassword(_message.Message):
    __slots__ = ("name", "password_hash")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_HASH_FIELD_NUMBER: _ClassVar[int]
    name: str
    password_hash: str
    def __init__(self, name: _Optional[str] = ..., password_hash: _Optional[str] = ...) -> None: ...

class UserGrantRole(_message.Message):
    __slots__ = ("name", "role")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ...) -> None: ...

class UserRevokeRole(_message.Message):
    __slots__ = ("name", "role")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ...) -> None: ...

class RoleAdd(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RoleDelete(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RoleGrant(_message.Message):
    __slots__ = ("role", "permission", "admin_right")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    ADMIN_RIGHT_FIELD_NUMBER: _ClassVar[int]
    role: str
    permission: Permission
    admin_right: AdminRight
    def __init__(self, role: _Optional[str] = ..., permission: _Optional[_Union[Permission, _Mapping]] = ..., admin_right: _Optional[_Union[AdminRight, str]] = ...) -> None: ...

class RoleRevoke(_message.Message):
    __slots__ = ("role", "permission", "admin_right")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    ADMIN_RIGHT_FIELD_NUMBER: _ClassVar[int]
    role: str
    permission: Permission
    admin_right: AdminRight
    def __init__(self, role: _Optional[str] = ..., permission: _Optional[_Union[Permission, _Mapping]] = ..., admin_right: _Optional[_Union[AdminRight, str]] = ...) -> None: ...

class TokenCreate(_message.Message):
    __slots__ = ("id", "user", "secret_hash", "ttl_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    SECRET_HASH_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    user: str
    secret_hash: bytes
    ttl_ms: int
    def __init__(self, id: _Optional[bytes] = ..., user: _Optional[str] = ..., secret_hash: _Optional[bytes] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class TokenRevoke(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    def __init__(self, id: _Optional[bytes] = ...) -> None: ...

class SigningKeyRotate(_message.Message):
    __slots__ = ("secret", "replaced")
    SECRET_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    secret: bytes
    replaced: int
    def __init__(self, secret: _Optional[bytes] = ..., replaced: _Optional[int] = ...) -> None: ...

class RootReset(_message.Message):
    __slots__ = ("password_hash",)
    PASSWORD_HASH_FIELD_NUMBER: _ClassVar[int]
    password_hash: str
    def __init__(self, password_hash: _Optional[str] = ...) -> None: ...

class AuthCommand(_message.Message):
    __slots__ = ("enable", "disable", "user_add", "user_delete", "user_set_password", "user_grant_role", "user_revoke_role", "role_add", "role_delete", "role_grant", "role_revoke", "token_create", "token_revoke", "signing_key_rotate", "root_reset")
    ENABLE_FIELD_NUMBER: _ClassVar[int]
    DISABLE_FIELD_NUMBER: _ClassVar[int]
    USER_ADD_FIELD_NUMBER: _ClassVar[int]
    USER_DELETE_FIELD_NUMBER: _ClassVar[int]
    USER_SET_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    USER_GRANT_ROLE_FIELD_NUMBER: _ClassVar[int]
    USER_REVOKE_ROLE_FIELD_NUMBER: _ClassVar[int]
    ROLE_ADD_FIELD_NUMBER: _ClassVar[int]
    ROLE_DELETE_FIELD_NUMBER: _ClassVar[int]
    ROLE_GRANT_FIELD_NUMBER: _ClassVar[int]
    ROLE_REVOKE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_CREATE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_REVOKE_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_ROTATE_FIELD_NUMBER: _ClassVar[int]
    ROOT_RESET_FIELD_NUMBER: _ClassVar[int]
    enable: AuthEnable
    disable: AuthDisable
    user_add: UserAdd
    user_delete: UserDelete
    user_set_password: UserSetPassword
    user_grant_role: UserGrantRole
    user_revoke_role: UserRevokeRole
    role_add: RoleAdd
    role_delete: RoleDelete
    role_grant: RoleGrant
    role_revoke: RoleRevoke
    token_create: TokenCreate
    token_revoke: TokenRevoke
    signing_key_rotate: SigningKeyRotate
    root_reset: RootReset
    def __init__(self, enable: _Optional[_Union[AuthEnable, _Mapping]] = ..., disable: _Optional[_Union[AuthDisable, _Mapping]] = ..., user_add: _Optional[_Union[UserAdd, _Mapping]] = ..., user_delete: _Optional[_Union[UserDelete, _Mapping]] = ..., user_set_password: _Optional[_Union[UserSetPassword, _Mapping]] = ..., user_grant_role: _Optional[_Union[UserGrantRole, _Mapping]] = ..., user_revoke_role: _Optional[_Union[UserRevokeRole, _Mapping]] = ..., role_add: _Optional[_Union[RoleAdd, _Mapping]] = ..., role_delete: _Optional[_Union[RoleDelete, _Mapping]] = ..., role_grant: _Optional[_Union[RoleGrant, _Mapping]] = ..., role_revoke: _Optional[_Union[RoleRevoke, _Mapping]] = ..., token_create: _Optional[_Union[TokenCreate, _Mapping]] = ..., token_revoke: _Optional[_Union[TokenRevoke, _Mapping]] = ..., signing_key_rotate: _Optional[_Union[SigningKeyRotate, _Mapping]] = ..., root_reset: _Optional[_Union[RootReset, _Mapping]] = ...) -> None: ...

class AuthResult(_message.Message):
    __slots__ = ("auth_revision",)
    AUTH_REVISION_FIELD_NUMBER: _ClassVar[int]
    auth_revision: int
    def __init__(self, auth_revision: _Optional[int] = ...) -> None: ...
