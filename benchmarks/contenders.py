"""The proxies that are compared, each on one core, each with as many ports as there are sessions."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

JVM_PORT = 25_000
SESSIONS = 32
PROXY_CORE = "0"

NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")  # Debian's libnginx-mod-stream; elsewhere built in
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
{module}
events {{ worker_connections 8192; }}
stream {{ server {{ listen 127.0.0.1:{first}-{last}; proxy_pass 127.0.0.1:{jvm}; tcp_nodelay on; }} }}
"""
HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen relay
  bind 127.0.0.1:{first}-{last}
  server jvm 127.0.0.1:{jvm}
"""


@dataclass(frozen=True)
class Contender:
    name: str
    first_port: int
    argv: Sequence[str] = ()
    ports: int = SESSIONS

    @property
    def has_many_ports(self) -> bool:
        return self.ports > 1

    @contextmanager
    def up(self) -> Iterator[int]:
        """Its process, once it listens."""
        process = subprocess.Popen(["taskset", "-c", PROXY_CORE, *self.argv])
        try:
            _until_listening(self.first_port + self.ports - 1, process)
            yield process.pid
        finally:
            process.terminate()
            process.wait(timeout=20)


def _until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait by looking: a connection would be carried to the JVM."""
    for _ in range(600):
        if f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text():
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} does not listen at port {port}")


def direct() -> Contender:
    return Contender("direct", JVM_PORT, ports=1)


def socat() -> Contender:
    listen = "TCP-LISTEN:26100,bind=127.0.0.1,reuseaddr,fork,nodelay,backlog=1024"
    return Contender("socat", 26_100, ["socat", listen, f"TCP:127.0.0.1:{JVM_PORT},nodelay"], ports=1)


def nginx(folder: Path) -> Contender:
    module = f"load_module {NGINX_MODULE};" if NGINX_MODULE.exists() else ""
    settings = NGINX.format(folder=folder, module=module, first=26_000, last=26_000 + SESSIONS - 1, jvm=JVM_PORT)
    (folder / "nginx.conf").write_text(settings)
    return Contender("nginx", 26_000, ["nginx", "-c", str(folder / "nginx.conf")])


def haproxy(folder: Path) -> Contender:
    settings = HAPROXY.format(first=27_000, last=27_000 + SESSIONS - 1, jvm=JVM_PORT)
    (folder / "haproxy.cfg").write_text(settings)
    return Contender("haproxy", 27_000, ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")])


def gateway(*, first_port: int, ports: int = SESSIONS, uvloop: bool) -> Contender:
    argv = [sys.executable, "-m", "benchmarks.gateway", str(first_port), str(ports), str(JVM_PORT)]
    name = "gateway, uvloop" if uvloop else "gateway"
    return Contender(name, first_port, [*argv, "--uvloop"] if uvloop else argv, ports)


@contextmanager
def all_contenders(folder: Path) -> Iterator[list[Contender]]:
    proxies = [socat(), nginx(folder), haproxy(folder)]
    proxies += [gateway(first_port=28_000, uvloop=True), gateway(first_port=28_100, uvloop=False)]
    with ExitStack() as stack:
        for proxy in proxies:
            stack.enter_context(proxy.up())
        yield [direct(), *proxies]
