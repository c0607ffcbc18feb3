"""Addresses of pods, as their cluster reports them: who reports one may not choose where the gateway connects to.

A cluster may name any address. The gateway goes to those of its pod networks, if the configuration says which these
are; if it does not, to none that cannot be a pod's. What answers there has to know the session's secret besides
(inpod/forwarder.sh asks for it before a byte passes).
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence

from noah.core.forwarder import token_line
from noah.errors import CannotDebug, Unavailable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def checked(text: str, *, networks: Sequence[Network], cluster: str) -> str:
    """Return the address if the gateway may connect to it. Raises CannotDebug with the reason."""
    setting = f'pod_networks of cluster "{cluster}"'
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise CannotDebug(f'Cluster "{cluster}" reports {text[:60]!r} as the address of a pod.') from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    if any(address in network for network in networks):
        return str(address)
    if networks:
        raise CannotDebug(f"The pod's address {address} is in none of the networks of the setting {setting}.")
    no_pods = address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local
    if no_pods or address.is_reserved or address_towards(str(address)) == str(address):
        raise CannotDebug(
            f"The pod's address {address} is not one that a pod can have, or the gateway's own: if it is right, put "
            f"its network into the setting {setting}."
        )
    return str(address)


def address_towards(ip: str) -> str:
    """Return the address of this machine that *ip* sees; nothing is sent to find out."""
    family = socket.AF_INET6 if ipaddress.ip_address(ip).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ip, 9))
        except OSError as e:
            raise Unavailable(f"The gateway has no route to the pod network ({ip}: {e.strerror}).") from None
        return str(probe.getsockname()[0])


async def connect(
    factory: Callable[[], asyncio.BufferedProtocol], ip: str, port: int, *, token: str
) -> asyncio.Transport:
    """Connect to a forwarder: it is sent the token before *factory*'s protocol has the connection."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await loop.sock_connect(sock, (ip, port))
        await loop.sock_sendall(sock, token_line(token))
        transport, _ = await loop.create_connection(factory, sock=sock)
    except BaseException:
        sock.close()
        raise
    return transport
