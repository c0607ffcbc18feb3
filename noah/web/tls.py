"""The gateway's own TLS: a certificate and a key from files, which somebody else renews; certificates of clients."""

import logging
import ssl
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from noah.errors import BadSettings
from noah.file_state import FileState, state_if_there

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0  # what renews certificates does so days before the old one ends


class Tls:
    def __init__(self, certificate: Path, key: Path, *, client_ca: Path | None = None) -> None:
        """*client_ca*: who signs the certificates that clients may show; a client that shows another is refused.

        Raises BadSettings if the files are not a certificate and its key, or certificates.
        """
        self._files = certificate, key
        self._state = self._look()
        self.context = _context()
        try:
            self.context.load_cert_chain(*self._files)
        except (OSError, ValueError) as e:
            raise BadSettings(f"TLS with {certificate} and {key} is not possible: {_reason(e)}.") from None
        if client_ca is not None:
            self.context.verify_mode = ssl.CERT_OPTIONAL
            try:
                self.context.load_verify_locations(client_ca)
            except (OSError, ValueError) as e:
                raise BadSettings(f"client_ca of [access.proxy] cannot be used: {_reason(e)}.") from None

    async def renew(self) -> None:
        """Take the files again if they have changed; what is being renewed right now is looked at again later."""
        state = self._look()
        if state == self._state:
            return
        try:
            _context().load_cert_chain(*self._files)  # both fit together, before the one in use loses its own
            self.context.load_cert_chain(*self._files)
        except (OSError, ValueError) as e:
            log.error("the new TLS files cannot be used, the old ones stay: %s", _reason(e))
            return
        self._state = state
        log.info("TLS has a new certificate, from %s", self._files[0])

    def _look(self) -> tuple[FileState | None, ...]:
        return tuple(state_if_there(file) for file in self._files)


def names_of(certificate: Mapping[str, Any] | None) -> Collection[str]:
    """Return the common name and the DNS names of a verified certificate, as ssl shows it."""
    if not certificate:
        return ()
    common = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    return {*common, *(value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")}


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
