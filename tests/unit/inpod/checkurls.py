"""A server on loopback whose checkurls behave as apps on a bad day do."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

EMPTY = b"Content-Length: 0\r\nConnection: close\r\n\r\n"


class Checkurls:
    def __init__(self, plain: socket.socket, tls: socket.socket) -> None:
        self._ports = plain.getsockname()[1], tls.getsockname()[1]
        self._over = threading.Event()
        self._asked: Callable[[], None] = lambda: None

    @classmethod
    @contextlib.contextmanager
    def served(cls) -> Iterator["Checkurls"]:
        with socket.create_server(("127.0.0.1", 0), backlog=128) as plain, _tls() as tls:
            self = cls(plain, tls)
            acceptors = [threading.Thread(target=self._accept, args=(server,)) for server in (plain, tls)]
            for acceptor in acceptors:
                acceptor.start()
            try:
                yield self
            finally:
                self._over.set()
                for server in (plain, tls):
                    server.shutdown(socket.SHUT_RDWR)
                for acceptor in acceptors:
                    acceptor.join()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._ports[0]}{path}"

    def tls_url(self, path: str) -> str:
        return f"https://127.0.0.1:{self._ports[1]}{path}"

    @contextlib.contextmanager
    def when_asked(self, do: Callable[[], None]) -> Iterator[None]:
        self._asked = do
        try:
            yield
        finally:
            self._asked = lambda: None

    def _accept(self, server: socket.socket) -> None:
        talks: list[threading.Thread] = []
        while True:
            try:
                client, _ = server.accept()
            except ssl.SSLError:
                continue
            except OSError:
                break
            talks.append(threading.Thread(target=self._talk, args=(client,)))
            talks[-1].start()
        for talk in talks:
            talk.join()

    def _talk(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(10)
            request = b""
            while b"\r\n\r\n" not in request:
                if not (more := client.recv(65536)):
                    return
                request += more
            path = request.split()[1].decode("latin-1")
            self._asked()
            self._answer(client, path.split("/")[1])

    def _answer(self, client: socket.socket, how: str) -> None:
        match how:
            case "302":
                client.sendall(b"HTTP/1.1 302 Found\r\nLocation: /200\r\n" + EMPTY)
            case "reset":
                return
            case "nonsense":
                client.sendall(b"200 OK\r\n\r\n")
            case "hang":
                self._hold(client)
            case "headers":
                client.sendall(b"HTTP/1.1 ")
                self._hold(client)
            case "body":
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nUP")
                self._hold(client)
            case "trickle":
                until = time.monotonic() + 60
                while not self._over.wait(0.2) and time.monotonic() < until:
                    client.sendall(b"H")
            case status:
                client.sendall(f"HTTP/1.1 {status} Whatever\r\n".encode() + EMPTY)

    def _hold(self, client: socket.socket) -> None:
        """Until the other side has had enough."""
        client.settimeout(0.2)
        while not self._over.is_set():
            try:
                if not client.recv(1):
                    return
            except TimeoutError:
                continue


@contextlib.contextmanager
def _tls() -> Iterator[socket.socket]:
    """With a certificate that nobody can verify."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody-else.test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        Path(file.name).write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(file.name)
    with socket.create_server(("127.0.0.1", 0)) as server, context.wrap_socket(server, server_side=True) as tls:
        yield tls
