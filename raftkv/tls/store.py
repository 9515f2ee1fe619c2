"""The newest certificates of a port: its files are read again when they change."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

from raftkv.errors import ConfigurationError
from raftkv.logs import Logger
from raftkv.tls.files import CertificatePaths, Certificates, read_certificates

WARN_BEFORE = timedelta(days=30)
WARN_INTERVAL = timedelta(days=1)


class CertificateStore:
    """The certificates in the files at `paths`; see `read_certificates` for the arguments.

    New connections use `current`, whose replacement touches no existing connection.
    """

    def __init__(
        self, paths: CertificatePaths, verify_mode: ssl.VerifyMode, node_name: str = ""
    ) -> None:
        """Raises `ConfigurationError` if the files can't be used."""
        self._paths = paths
        self._verify_mode = verify_mode
        self._node_name = node_name
        self._state = paths.state()
        self._warned_at = datetime.min.replace(tzinfo=UTC)
        self.current: Certificates = self._read()

    def refresh(self, log: Logger) -> None:
        """Read the files again if one has changed. May run on any one thread.

        Files that can't be used are logged, and the certificates before stay in use.
        """
        state = self._paths.state()
        if state == self._state:
            return
        try:
            certificates = self._read()
        except ConfigurationError as error:
            self._state = state
            log.error("certificates_not_taken", port=self._paths.port, message=error.message)
            return
        # Files that changed while they were read may be of two generations: read again next time.
        self._state = state
        if self._paths.state() != state:
            return
        self.current = certificates
        self._warned_at = datetime.min.replace(tzinfo=UTC)
        log.info(
            "certificates_read",
            port=self._paths.port,
            not_after=min(each.at for each in certificates.expiries).isoformat(),
        )

    def warn_of_expiry(self, log: Logger, now: datetime) -> None:
        """Log each file whose certificates expire within `WARN_BEFORE`, once per `WARN_INTERVAL`
        and after each change of the files.
        """
        if now - self._warned_at < WARN_INTERVAL:
            return
        self._warned_at = now
        for each in self.current.expiries:
            left = each.at - now
            if left > WARN_BEFORE:
                continue
            facts = {"setting": each.setting, "file": each.path, "not_after": each.at.isoformat()}
            if left > timedelta():
                log.warning("certificate_expires", **facts, days_left=left.days)
            else:
                log.error("certificate_expired", **facts)

    def _read(self) -> Certificates:
        return read_certificates(self._paths, self._verify_mode, self._node_name)
