"""What a client proves its user with: a password or a token, given or read from files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from raftkv.errors import ConfigurationError, InvalidRequest

USER_VARIABLE: Final = "RAFTKV_USER"
PASSWORD_VARIABLE: Final = "RAFTKV_PASSWORD_FILE"
TOKEN_VARIABLE: Final = "RAFTKV_TOKEN_FILE"

TOKEN_CHARACTERS_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class UserCredentials:
    """A user and password, or a token, or neither. The secrets are not in the `repr`."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def credentials_of(
    user: str | None,
    password: str | None,
    token: str | None,
    environ: Mapping[str, str] = os.environ,
) -> UserCredentials:
    """The credentials that a caller gave, or that the environment names; empty ones are as none.

    A user without a password has that of the file in RAFTKV_PASSWORD_FILE. Without a user and a
    token, RAFTKV_USER or RAFTKV_TOKEN_FILE has them.

    Raises `ConfigurationError` for credentials that are incomplete or given twice and for a file
    that can't be used, `InvalidRequest` for what is no text. No message has a password or a token.
    """
    for name, value in (("user", user), ("password", password), ("token", token)):
        if value is not None and value != "":
            to_secret(value, name)
    if token and (user or password):
        raise ConfigurationError(
            "token is given with user or password; a token stands for its user, leave out one of"
            " them",
            setting="token",
        )
    if not (user or password or token):
        user, token_file = environ.get(USER_VARIABLE), environ.get(TOKEN_VARIABLE)
        if user and token_file:
            raise ConfigurationError(
                f"{USER_VARIABLE} and {TOKEN_VARIABLE} are both set; a token stands for its user,"
                " unset one of them",
                setting=TOKEN_VARIABLE,
            )
        token = read_secret_file(token_file, TOKEN_VARIABLE) if token_file else None
    if token:
        return UserCredentials(token=checked_token(token))
    if user and not password and (password_file := password_file_of(user, environ)):
        password = read_secret_file(password_file, PASSWORD_VARIABLE)
    if user and not password:
        raise ConfigurationError(
            f"the user {user!r} is given without a password; give password= or a file with it in"
            f" {PASSWORD_VARIABLE}",
            setting="password",
        )
    if password and not user:
        raise ConfigurationError("password is given without user; give both", setting="user")
    return UserCredentials(user or "", password or "")


def password_file_of(user: str, environ: Mapping[str, str]) -> str:
    """The password file that the environment names for this user; empty if it is another user's."""
    if environ.get(USER_VARIABLE) not in (None, "", user):
        return ""
    return environ.get(PASSWORD_VARIABLE, "")


def read_secret_file(file: str | os.PathLike[str], setting: str) -> str:
    """The password or token in a file, without the line break at its end.

    Raises `ConfigurationError` that names the setting if the file can't be read or is empty.
    """
    try:
        secret = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigurationError(
            f"{setting} is {os.fspath(file)!r}, which can't be read: {problem}; name a file that"
            " holds the secret and nothing else",
            setting=setting,
        ) from None
    if not secret:
        raise ConfigurationError(
            f"{setting} is {os.fspath(file)!r}, which is empty; write the secret into it",
            setting=setting,
        )
    return secret


def to_secret(value: str, field: str) -> str:
    """A password. Raises `InvalidRequest`, without the value, if it is empty or no text."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{field} is a {type(value).__name__}; give a str", field=field)
    if not value:
        raise InvalidRequest(f"{field} is empty; give at least one character", field=field)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{field} has a lone surrogate; give text", field=field) from None
    return value


def checked_token(token: str) -> str:
    """The token. Raises `ConfigurationError` for one that can't stand in a call's metadata."""
    if len(token) > TOKEN_CHARACTERS_MAX or not all("!" <= character <= "~" for character in token):
        raise ConfigurationError(
            "the token is none: a token is one line of printable ASCII without spaces, at most"
            f" {TOKEN_CHARACTERS_MAX} characters; give what `raftkv token create` has printed",
            setting="token",
        )
    return token
