"""Passwords for the `raftkv` command: from a terminal or from a file, never from its arguments."""

from __future__ import annotations

import sys
from functools import cache
from getpass import getpass
from pathlib import Path

from raftkv.errors import ConfigurationError


@cache
def ask_password(user: str) -> str:
    """The password of the user who runs the command, asked for once.

    Raises `ConfigurationError` without a terminal.
    """
    _require_terminal(f"the password of {user!r} is missing", "RAFTKV_PASSWORD_FILE")
    return getpass(f"Password of {user}: ")


def new_password(user: str, file: Path | None) -> str:
    """The password that a user gets: the content of `file`, or asked for twice.

    Raises `ConfigurationError` for a file that can't be read, without a terminal, and if the two
    differ.
    """
    from raftkv.client.credentials import read_secret_file

    if file is not None:
        return read_secret_file(file, "--password-file")
    _require_terminal(f"the new password of {user!r} is missing", "--password-file")
    password = getpass(f"New password of {user}: ")
    if getpass("Once more: ") != password:
        raise ConfigurationError("the two passwords differ; nothing was changed, try again")
    return password


def _require_terminal(missing: str, where: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"{missing}, and there is no terminal to ask at; name a file that holds it with {where}"
        )
