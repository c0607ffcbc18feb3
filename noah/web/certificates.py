"""The webhook's certificates: an authority of its own, kept in a folder, and short-lived ones that it signs.

The API servers are told the authority once; the certificates are made anew long before they end, with nobody looking.
"""

import ipaddress
import os
import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from noah.errors import BadSettings

AUTHORITY_LASTS = timedelta(days=3650)
LASTS = timedelta(days=30)
RENEWED_AT = LASTS / 2  # before its end
SKEW = timedelta(hours=1)  # by which an API server's clock may be behind


class Certificates:
    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._names = names
        self._ends: datetime | None = None

    def authority(self, now: datetime) -> str:
        """PEM; made when there is none yet."""
        self._make_authority(now)
        return self._read("authority.crt").decode()

    def is_due(self, now: datetime) -> bool:
        return self._ends is None or self._ends - now < RENEWED_AT

    def renew(self, context: ssl.SSLContext, now: datetime) -> None:
        """Connections from now on get a new certificate; those that there are keep theirs."""
        self._make_authority(now)
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.load_pem_x509_certificate(self._read("authority.crt"))
        signer = serialization.load_pem_private_key(self._read("authority.key"), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        names = x509.SubjectAlternativeName([_general_name(name) for name in self._names])
        certificate = (
            _builder("noah webhook", key.public_key(), issuer.subject, now, now + LASTS)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(signer, hashes.SHA256())
        )
        self._write("webhook.pem", _pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(self._folder / "webhook.pem")
        self._ends = now + LASTS

    def _make_authority(self, now: datetime) -> None:
        if (self._folder / "authority.crt").exists():
            return
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "noah webhook authority")])
        certificate = (
            _builder("noah webhook authority", key.public_key(), name, now, now + AUTHORITY_LASTS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        self._write("authority.key", _pem(key))
        self._write("authority.crt", certificate.public_bytes(serialization.Encoding.PEM))

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as e:
            raise BadSettings(f"The webhook's {self._folder / name} cannot be read: {e.strerror}.") from None

    def _write(self, name: str, content: bytes) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = self._folder / f"{name}.part"
            part.touch(mode=0o600)
            part.write_bytes(content)
            os.replace(part, self._folder / name)
        except OSError as e:
            raise BadSettings(f"The webhook's {self._folder / name} cannot be written: {e.strerror}.") from None


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - SKEW)
        .not_valid_after(ends)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
