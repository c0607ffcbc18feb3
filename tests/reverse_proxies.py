"""Real proxies before a gateway: nginx, HAProxy, and an HTTP proxy that knows CONNECT."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

WITHIN_S = 60.0


@asynccontextmanager
async def nginx(folder: Path, location: str, *, port: int, name: str | None) -> AsyncIterator[None]:
    """Run nginx with *location*, with TLS for *name* if there is one: folder/proxy.crt has the certificate."""
    listen = f"127.0.0.1:{port}"
    if name is not None:
        await asyncio.to_thread(make_certificate, folder, name)
        listen += f" ssl; ssl_certificate {folder}/proxy.crt; ssl_certificate_key {folder}/proxy.key"
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file, log = folder / "nginx.conf", folder / "nginx.log"
    file.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {log}; events {{}}\n"
        f"http {{ access_log off; {temporary}\n  server {{ listen {listen}; {location} }} }}\n"
    )
    async with _running(["nginx", "-c", str(file), "-e", str(log)], port=port, log=log):
        yield


@asynccontextmanager
async def haproxy(folder: Path, rest: str, *, port: int, name: str) -> AsyncIterator[None]:
    """Run HAProxy with TLS for *name*; *rest* is what follows the bind line."""
    await asyncio.to_thread(make_certificate, folder, name)
    both = folder / "haproxy.pem"
    both.write_text((folder / "proxy.crt").read_text() + (folder / "proxy.key").read_text())
    file, log = folder / "haproxy.cfg", folder / "haproxy.log"
    file.write_text(
        f"defaults\n  mode http\n  timeout connect 5s\nlisten noah\n  bind 127.0.0.1:{port} ssl crt {both}\n{rest}"
    )
    log.touch()
    async with _running(["haproxy", "-db", "-f", str(file)], port=port, log=log):
        yield


@asynccontextmanager
async def load_balancer(
    folder: Path, servers: Sequence[tuple[str, int]], *, port: int, debug_ports: str, spare: int = 0
) -> AsyncIterator[None]:
    """Run HAProxy before gateways at these hosts and HTTP ports: for HTTP at *port*, and for all debug ports.

    *spare*: how many gateways more put_server() may add, each with the HTTP port 7070.
    """
    file, log = folder / "balancer.cfg", folder / "balancer.log"
    # The database of gateways that start all at once may take some seconds on a busy machine.
    patient = "inter 1s fall 4 rise 1" if spare else "inter 500ms fall 2 rise 1"
    checked = f"  option httpchk GET /readyz\n  default-server {patient}\n"
    later = [f"s{n} 127.0.0.1" for n in range(spare)]
    lines = [
        f"global\n  stats socket {folder}/balancer.sock level admin\n",
        "defaults\n  timeout connect 5s\n  timeout check 10s\n  timeout client 1h\n  timeout server 1h\n",
        "  retries 3\n  option redispatch 1\n",
        f"listen http\n  mode http\n  retry-on conn-failure empty-response\n  bind 127.0.0.1:{port}\n{checked}",
        *(f"  server g{n} {host}:{number} check\n" for n, (host, number) in enumerate(servers)),
        *(f"  server {one}:7070 check disabled\n" for one in later),
        f"listen debug\n  mode tcp\n  bind 127.0.0.1:{debug_ports}\n{checked}",
        # Without a port: the one that the debugger came to.
        *(f"  server g{n} {host} check port {number}\n" for n, (host, number) in enumerate(servers)),
        *(f"  server {one} check port 7070 disabled\n" for one in later),
    ]
    file.write_text("".join(lines))
    log.touch()
    async with _running(["haproxy", "-db", "-f", str(file)], port=port, log=log):
        yield


async def put_server(folder: Path, number: int, host: str) -> None:
    """Have the load balancer of *folder* send requests and debuggers to this host, too, by one of its spare places."""
    for name in ("http", "debug"):
        for change in (f"addr {host}", "state ready"):
            reader, writer = await asyncio.open_unix_connection(folder / "balancer.sock")
            writer.write(f"set server {name}/s{number} {change}\n".encode())
            said = (await reader.read()).decode().strip()
            assert not said or "changed" in said, said
            writer.close()


def make_certificate(folder: Path, name: str) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}",
         "-addext", f"subjectAltName=DNS:{name}",
         "-keyout", str(folder / "proxy.key"), "-out", str(folder / "proxy.crt")],
        check=True, capture_output=True,
    )  # fmt: skip


class ConnectProxy:
    """An HTTP proxy that lets CONNECT pass and nothing else."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []  # HOST:PORT of each CONNECT

    @asynccontextmanager
    async def open(self) -> AsyncIterator["ConnectProxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            verb, where, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(maxsplit=2)
            if verb != "CONNECT":
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            else:
                self.asked.append(where)
                host, _, port = where.rpartition(":")
                far_reader, far_writer = await asyncio.open_connection(host, int(port))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pipe(reader, far_writer))
                    group.create_task(_pipe(far_reader, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def _running(argv: list[str], *, port: int, log: Path) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(*argv)
    try:
        async with asyncio.timeout(WITHIN_S):
            while not await _listens(port):
                assert process.returncode is None, _text_of(log)
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _text_of(file: Path) -> str:
    return file.read_text()
