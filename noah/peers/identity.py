"""The key and the certificate of one gateway, and whose certificates it accepts."""

import os
import secrets
import ssl
from collections.abc import Collection
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

# Certificates are compared whole and go with their rows: a clock that is wrong must not end one (RFC 5280, 4.1.2.5).
BEGINS, ENDS = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


class Identity:
    """A gateway's own. Its key is never written to a disk, and made when it is needed: one gateway alone has none."""

    @property
    def certificate(self) -> bytes:
        return self._made[0]

    @cached_property
    def _made(self) -> tuple[bytes, bytes]:
        """Return the certificate, DER, and the key and the certificate, PEM."""
        # 7 MiB, for gateways that have others beside them.
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        # OpenSSL finds a certificate by its name, and compares it then: no two may have the same.
        name = f"noah gateway {secrets.token_hex(8)}"
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(BEGINS)
            .not_valid_after(ENDS)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        return certificate.public_bytes(serialization.Encoding.DER), private + pem

    def server_context(self, accepted: Collection[bytes]) -> ssl.SSLContext:
        """Return a context that admits clients with one of the *accepted* certificates."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER, accepted)
        # Without a ticket each connection shows its certificate, also when its row has gone meanwhile.
        context.num_tickets = 0
        return context

    def client_context(self, accepted: bytes) -> ssl.SSLContext:
        return self._context(ssl.PROTOCOL_TLS_CLIENT, [accepted])

    def _context(self, side: int, accepted: Collection[bytes]) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the whole certificate is compared
        context.verify_mode = ssl.CERT_REQUIRED
        for certificate in accepted:
            context.load_verify_locations(cadata=certificate)
        # OpenSSL reads a key from a file only: this one is in memory, and gone afterwards.
        file = os.memfd_create("noah")
        try:
            os.write(file, self._made[1])
            context.load_cert_chain(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        return context


def certificate_of(tls: Any) -> bytes | None:
    """Return the certificate that the other side of a TLS object has shown, DER."""
    return tls.getpeercert(binary_form=True) if tls is not None else None
