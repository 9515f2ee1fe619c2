"""The deny list: serial numbers of certificates that are refused although they are valid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from raftkv.errors import ConfigurationError, Unauthenticated
from raftkv.logs import Logger
from raftkv.tls.certificates import Certificate
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
        self._streams: dict[asyncio.Timeout, int] = {}

    def __contains__(self, serial: object) -> bool:
        return serial in self._serials

    @property
    def in_use(self) -> bool:
        """Whether there is a file."""
        return bool(self._path)

    def require(self, certificate: Certificate) -> None:
        """Raise `Unauthenticated` if the certificate is on the list."""
        if certificate.serial in self._serials:
            raise Unauthenticated(
                f"the certificate of {certificate.common_name or 'the caller'} (serial"
                f" {certificate.serial:x}) is on this cluster's deny list; use a new certificate"
            )

    @asynccontextmanager
    async def guard(self, certificate: Certificate) -> AsyncIterator[None]:
        """Raises `Unauthenticated` in the body as soon as the certificate is on the list."""
        try:
            async with asyncio.timeout(None) as stream:
                self._streams[stream] = certificate.serial
                try:
                    yield
                finally:
                    del self._streams[stream]
        except TimeoutError:
            if stream.expired():
                self.require(certificate)
            raise

    def end_denied(self) -> None:
        """End what `guard` guards, where it is on the list now."""
        now = asyncio.get_running_loop().time()
        for stream, serial in self._streams.items():
            if serial in self._serials and not stream.expired():
                stream.reschedule(now)

    def refresh(self, log: Logger) -> None:
        """Read the file again if it has changed. May run on any one thread.

        A list that can't be read is logged, and the one before stays in force.
        """
        if not self._path or (state := state_of(self._path)) == self._state:
            return
        self._state = state
        try:
            serials = read_serials(self._path)
        except ConfigurationError as error:
            log.error("certificate_deny_list_not_taken", message=error.message)
            return
        self._serials = serials
        log.info("certificate_deny_list_read", file=self._path, serials=len(serials))


NO_CERTIFICATE_DENIED: Final = DenyList()


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
