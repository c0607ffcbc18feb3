"""The gateway's own TLS: a certificate that somebody else renews is used from the next connection on."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from noah.errors import BadSettings
from noah.web.tls import Tls


def _issue(folder: Path, name: str) -> None:
    """Write tls.crt and tls.key of *name* in one step each, as what renews certificates does."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for file, content in (("tls.key", pem), ("tls.crt", certificate.public_bytes(serialization.Encoding.PEM))):
        (folder / f"{file}.new").write_bytes(content)
        (folder / f"{file}.new").replace(folder / file)


def _anybody() -> ssl.SSLContext:
    """Return what a client has that believes every server."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


async def _name_at(port: int) -> str:
    """Return the name in the certificate that a new connection is shown."""
    anybody = _anybody()
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=anybody)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    found = x509.load_der_x509_certificate(shown).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert isinstance(found, str)
    return found


async def test_a_renewed_certificate_is_used_and_half_a_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _issue(tmp_path, "first")
    tls = Tls(tmp_path / "tls.crt", tmp_path / "tls.key")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls.context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await _name_at(port) == "first"
        _issue(tmp_path, "second")
        await tls.renew()
        assert await _name_at(port) == "second"
        before = (tmp_path / "tls.key").read_bytes()
        _issue(tmp_path, "third")
        third = (tmp_path / "tls.key").read_bytes()
        (tmp_path / "tls.key").write_bytes(before)  # the certificate is there already, its key is not
        await tls.renew()
        assert "the old ones stay" in caplog.text
        assert await _name_at(port) == "second"
        (tmp_path / "tls.key").write_bytes(third)
        await tls.renew()
        assert await _name_at(port) == "third"
        (tmp_path / "tls.key").unlink()
        await tls.renew()
        assert await _name_at(port) == "third"


def test_files_that_are_not_a_certificate_and_its_key_are_named(tmp_path: Path) -> None:
    for content in (None, "", "not PEM"):
        if content is not None:
            (tmp_path / "tls.crt").write_text(content)
        with pytest.raises(BadSettings, match=r"TLS with \S+tls.crt and \S+tls.key is not possible: \S"):
            Tls(tmp_path / "tls.crt", tmp_path / "tls.key")


async def test_another_authority_of_clients_counts_from_the_next_connection_on(tmp_path: Path) -> None:
    """Also for a client that wants to resume what it had: its certificate is looked at each time."""
    for name in ("gateway", "one", "other"):
        (tmp_path / name).mkdir()
        _issue(tmp_path / name, name)
    trusted, files = tmp_path / "ca.crt", (tmp_path / "gateway" / "tls.crt", tmp_path / "gateway" / "tls.key")
    trusted.write_bytes((tmp_path / "one" / "tls.crt").read_bytes())
    tls = Tls(*files, client_ca=trusted)
    server = await asyncio.start_server(_greet, "127.0.0.1", 0, ssl=tls.context)
    clients = {name: _anybody() for name in ("one", "other")}
    for name, client in clients.items():
        client.load_cert_chain(tmp_path / name / "tls.crt", tmp_path / name / "tls.key")
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert [await _is_let_in(port, clients[name]) for name in ("one", "other")] == [True, False]
        (tmp_path / "ca.new").write_bytes((tmp_path / "other" / "tls.crt").read_bytes())
        (tmp_path / "ca.new").replace(trusted)
        await tls.renew()
        assert [await _is_let_in(port, clients[name]) for name in ("one", "other")] == [False, True]
        trusted.write_text("")
        await tls.renew()
        assert [await _is_let_in(port, clients[name]) for name in ("one", "other")] == [False, True]
        assert await _is_let_in(port, _anybody())  # no certificate at all


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hi")
    await writer.drain()
    writer.close()


async def _is_let_in(port: int, client: ssl.SSLContext) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        said = await reader.read()
        writer.close()
    except (OSError, ssl.SSLError):
        return False
    return said == b"hi"
