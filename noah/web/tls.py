"""The gateway's own TLS: a certificate and a key from files, which somebody else renews; certificates of clients."""

import asyncio
import logging
import ssl
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from noah.errors import BadSettings
from noah.file_state import FileState, content_of, state_if_there

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0  # what renews certificates does so days before the old one ends


class Tls:
    def __init__(self, certificate: Path, key: Path, *, client_ca: Path | None = None) -> None:
        """*client_ca*: who signs the certificates that clients may show; a client that shows another is refused.

        Raises BadSettings if the files are not a certificate and its key, or certificates.
        """
        self._files, self._client_ca = (certificate, key), client_ca
        self._state = self._look()
        self._now = self._made()
        # The one that is listened with: each handshake takes the one that is used now.
        self.context = self._made()
        self.context.sni_callback = self._begin

    async def renew(self) -> None:
        """Take the files again if they have changed; what is being renewed right now is looked at again later."""
        state = self._look()
        if state == self._state:
            return
        try:
            self._now = await asyncio.to_thread(self._made)
        except BadSettings as e:
            log.error("the new TLS files cannot be used, the old ones stay: %s", e.sentence)
            return
        self._state = state
        log.info("TLS has a new certificate, from %s", self._files[0])

    def _begin(self, handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        """Called by OpenSSL in each handshake, also without a name; CAs of clients are those of this context, too."""
        handshake.context = self._now

    def _made(self) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.set_alpn_protocols(["http/1.1"])
        certificate, key = self._files
        try:
            for file in self._files:
                content_of(file)  # OpenSSL would wait for a FIFO's writer
            made.load_cert_chain(certificate, key)
        except (OSError, ValueError) as e:
            raise BadSettings(f"TLS with {certificate} and {key} is not possible: {_reason(e)}.") from None
        if self._client_ca is not None:
            made.verify_mode = ssl.CERT_OPTIONAL
            made.num_tickets = 0  # with which a client would come back without its certificate being looked at
            try:
                made.load_verify_locations(cadata=content_of(self._client_ca).decode("ascii", "ignore"))
            except (OSError, ValueError) as e:
                raise BadSettings(f"client_ca of [access.proxy] cannot be used: {_reason(e)}.") from None
        return made

    def _look(self) -> tuple[FileState | None, ...]:
        files = (*self._files, self._client_ca) if self._client_ca is not None else self._files
        return tuple(state_if_there(file) for file in files)


def names_of(certificate: Mapping[str, Any] | None) -> Collection[str]:
    """Return the common name and the DNS names of a verified certificate, as ssl shows it."""
    if not certificate:
        return ()
    common = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    return {*common, *(value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")}


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
