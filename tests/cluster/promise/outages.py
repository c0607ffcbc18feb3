"""What goes wrong between a gateway, its cluster and a pod: ways to the API server that can be cut, dropped packets."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.cluster.conftest import Kubectl

DROPPED_FOR_S = 300  # more than any story takes


def api_server_port(kubectl: Kubectl) -> int:
    """The port on loopback of the API server of the tests' cluster."""
    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    server = urlsplit(str(config["clusters"][0]["cluster"]["server"]))
    assert server.hostname == "127.0.0.1", "these tests need an API server on loopback"
    assert server.port is not None
    return server.port


def kubeconfig_through(port: int, kubectl: Kubectl, into: Path) -> Path:
    """A kubeconfig for the same API server, by way of *port* of loopback."""
    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    into.write_text(json.dumps(config))
    return into


@contextmanager
def packets_dropped(ip: str, *, but_port: int) -> Iterator[None]:
    """Drops what goes between this machine and *ip*, both ways, but for one TCP port of *ip*."""
    table = f"noah_promise_{os.getpid()}"
    # With a timeout: if the tests are killed, the next pod that gets the address is not cut off for ever.
    rules = (
        f"table inet {table} {{\n"
        f"  set away {{ type ipv4_addr; flags timeout; elements = {{ {ip} timeout {DROPPED_FOR_S}s }}; }}\n"
        f"  chain to {{ type filter hook output priority 0; ip daddr @away tcp dport != {but_port} drop; }}\n"
        f"  chain from {{ type filter hook input priority 0; ip saddr @away tcp sport != {but_port} drop; }}\n"
        "}\n"
    )
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=True, capture_output=True)


def cluster(name: str, kubeconfig: Path, namespace: str, *, reach: str = "pod") -> str:
    """A gateway's configuration for one cluster."""
    return (
        f'[[clusters]]\nname = "{name}"\nkubeconfig = "{kubeconfig}"\nreach = "{reach}"\nnamespaces = ["{namespace}"]\n'
    )
