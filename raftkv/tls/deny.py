"""The deny list: serial numbers of certificates that are refused although they are valid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from raftkv.errors import ConfigurationError
from raftkv.logs import Logger
from raftkv.tls.files import state_of

SETTING = "certificate_deny_file"


class DenyList:
    """The serial numbers in a file, hexadecimal, one per line; without a file, none.

    Text after # is a comment. Colons and case don't matter, as `openssl x509 -serial` and browsers
    write them.
    """

    def __init__(self, path: str = "") -> None:
        """Raises `ConfigurationError` if there is a path whose file can't be used."""
        self._path = path
        self._state = state_of(path) if path else None
        self._serials = read_serials(path) if path else frozenset[int]()
        self._listeners: list[Callable[[], None]] = []

    def __contains__(self, serial: int) -> bool:
        return serial in self._serials

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of the list."""
        self._listeners.append(listener)

    def refresh(self, log: Logger) -> bool:
        """Read the file again if it has changed. Returns whether the list is another one.

        A list that can't be read is logged, and the one before stays in force.
        """
        if not self._path or (state := state_of(self._path)) == self._state:
            return False
        self._state = state
        try:
            serials = read_serials(self._path)
        except ConfigurationError as error:
            log.error("certificate_deny_list_not_taken", message=error.message)
            return False
        if serials == self._serials:
            return False
        self._serials = serials
        log.info("certificate_deny_list_read", file=self._path, serials=len(serials))
        return True

    def changed(self) -> None:
        """Call the listeners."""
        for listener in self._listeners:
            listener()


def read_serials(path: str) -> frozenset[int]:
    """The serial numbers in a file. Raises `ConfigurationError` that names the line."""
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(
            f"{SETTING} is {path}, which can't be read: {reason}. Fix: correct the path, or create"
            " the file; it may be empty.",
            key=SETTING,
        ) from error
    serials = set[int]()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip().replace(":", "")
        if not text:
            continue
        try:
            serials.add(int(text, 16))
        except ValueError:
            raise ConfigurationError(
                f"{SETTING} is {path}, whose line {number} is no serial number: {line.strip()!r}."
                " Fix: write one hexadecimal serial number per line, as `raftkv certs show` prints"
                " it.",
                key=SETTING,
            ) from None
    return frozenset(serials)
