"""The webhook's certificates: an authority of its own, kept in a folder, and short-lived ones that it signs.

The API servers are given the authority once; the certificates are replaced long before they end, by themselves. Only an
authority that has ended is followed by another one: no API server believes it any more, so nothing is lost, and a
person has to give them the next.
"""

import contextlib
import fcntl
import ipaddress
import os
import secrets
import ssl
import stat
import time
from collections.abc import Iterator, Sequence
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
WARNED_AT = timedelta(days=90)  # before the authority's end
LOCKED_WITHIN_S = 10.0  # another program makes an authority in some milliseconds
PATH_FILE = "path"  # what API servers have at the end of their URL
SKEW = timedelta(hours=1)  # by which an API server's clock may be behind


class Certificates:
    """The folder's certificates. Each method blocks, and raises BadSettings if the folder or a file is unusable."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._names = names
        self._ends: datetime | None = None
        self._authority: x509.Certificate | None = None  # that has signed the last one

    def authority(self, now: datetime) -> str:
        """Return the authority in PEM; make it if there is none, or it has ended."""
        self._make_authority(now)
        return self._read("authority.crt").decode()

    def path_token(self) -> str:
        """Return what the path ends with that API servers are given, so that nobody else is answered; make it first."""
        with self._alone():
            if not (self._folder / PATH_FILE).exists():
                # An API server takes lower-case letters and digits only, in the path of a Service.
                self._write(PATH_FILE, secrets.token_hex(20).encode())
        return self._read(PATH_FILE).decode()

    def known_path_token(self) -> str | None:
        """Return it if `noah webhook` has made one."""
        return self._read(PATH_FILE).decode() if (self._folder / PATH_FILE).exists() else None

    def is_due(self, now: datetime) -> bool:
        """True if the certificate ends soon, or `noah webhook` has made another authority."""
        if self._ends is None or self._authority is None or self._ends - now < RENEWED_AT:
            return True
        there = (self._folder / "authority.crt").exists()
        return now >= self._authority.not_valid_after_utc or not there or self._issuer() != self._authority

    def renew(self, context: ssl.SSLContext, now: datetime) -> str | None:
        """Give connections from now on a new certificate. Return a sentence if a person has something to do."""
        replaced = self._make_authority(now)
        issuer = self._issuer()
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([_general_name(name) for name in self._names])
        certificate = (
            _builder("noah webhook", key.public_key(), issuer.subject, now, now + LASTS)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._signer(), hashes.SHA256())
        )
        with self._alone():  # several gateways of one folder have a certificate each, by the same authority
            self._write("webhook.pem", _pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
            context.load_cert_chain(self._folder / "webhook.pem")
        self._ends, self._authority = now + LASTS, issuer
        return replaced or self._warning(issuer.not_valid_after_utc, now)

    def _warning(self, ends: datetime, now: datetime) -> str | None:
        if ends - now > WARNED_AT:
            return None
        return (
            f"The webhook's authority ends on {ends:%Y-%m-%d}; from then on nothing is injected. To have another "
            f"one: remove authority.crt from {self._folder}, then `noah webhook | kubectl apply -f -` in each cluster."
        )

    def _make_authority(self, now: datetime) -> str | None:
        """Make an authority if it is needed. Return a sentence if it follows one that API servers were given."""
        with self._alone():
            if not (self._folder / "authority.crt").exists():
                self._write_authority(now)
                return None
            ended = self._issuer().not_valid_after_utc
            if now < ended:
                return None
            self._write_authority(now)
        return (
            f"The webhook's authority has ended on {ended:%Y-%m-%d}, and there is another one. Nothing is injected "
            "until API servers have it: `noah webhook | kubectl apply -f -` in each cluster."
        )

    def _write_authority(self, now: datetime) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "noah webhook authority")])
        certificate = (
            _builder("noah webhook authority", key.public_key(), name, now, now + AUTHORITY_LASTS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        self._write("authority.key", _pem(key))
        self._write("authority.crt", certificate.public_bytes(serialization.Encoding.PEM))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder's lock: gateways and `noah webhook` that start together must not mix two authorities."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as e:
            raise BadSettings(f"The webhook's {self._folder} cannot be used: {e.strerror}.") from None
        try:
            self._check_owner(os.fstat(folder))
            self._lock(folder)
            yield
        finally:
            os.close(folder)

    def _check_owner(self, folder: os.stat_result) -> None:
        if folder.st_uid not in (0, os.getuid()) or folder.st_mode & stat.S_IWOTH:
            raise BadSettings(
                f"The webhook's {self._folder} may be written by other users of this machine, who could read or "
                "replace its keys: give it to the gateway's user alone (chown, chmod 700)."
            )

    def _lock(self, folder: int) -> None:
        until = time.monotonic() + LOCKED_WITHIN_S
        while True:
            try:
                return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise BadSettings(f"The webhook's {self._folder} is locked by another program.") from None
                time.sleep(0.05)

    def _issuer(self) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self._read("authority.crt"))
        except ValueError:
            raise BadSettings(f"The webhook's {self._folder / 'authority.crt'} is not a certificate.") from None

    def _signer(self) -> ec.EllipticCurvePrivateKey:
        try:
            signer = serialization.load_pem_private_key(self._read("authority.key"), None)
        except (ValueError, TypeError):
            signer = None
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise BadSettings(f"The webhook's {self._folder / 'authority.key'} is not a key that Noah made.")
        return signer

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as e:
            raise BadSettings(f"The webhook's {self._folder / name} cannot be read: {e.strerror}.") from None

    def _write(self, name: str, content: bytes) -> None:
        try:
            part = self._folder / f"{name}.part"
            part.unlink(missing_ok=True)
            # EXCL: never what somebody else has put there, a link above all.
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
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
