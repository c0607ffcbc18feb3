"""What a reverse proxy says of the request that it passes on: X-Forwarded-For, -Host and RFC 7239's Forwarded.

A header is believed from the settings' trusted proxies only. Each proxy appends the address it was called from, so the
addresses are read from right to left, and the first that is not a trusted proxy's is the client's: whatever stands left
of it may be the client's own invention.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator

from aiohttp import web

from noah.errors import BadInput
from noah.settings import IpAddress
from noah.web.keys import SETTINGS
from noah.web.unix_socket import is_by_unix_socket

LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
# RFC 7239, section 4: token "=" ( token / quoted-string ), separated by ";" within one proxy's element.
_PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;=]*))\s*(;|,|$)')
_ASK_WITH_ALLOW = "pass `allow` with the address that the debugger connects from"


def client_address(request: web.Request) -> str:
    """Return the address that the client's debugger would come from. Raises BadInput when that is not known."""
    peer = peer_address(request)
    if peer is None:
        raise BadInput(f"Your address is unknown: {_ASK_WITH_ALLOW}.")
    given = {name: values for name in ("Forwarded", "X-Forwarded-For") if (values := request.headers.getall(name, []))}
    if not given:
        return str(peer)
    if not is_trusted_proxy(peer, request):
        raise BadInput(
            f"The request came through a proxy at {peer}, which the gateway does not trust: {_ASK_WITH_ALLOW}, or put "
            "the proxy into the setting trusted_proxies of [gateway]."
        )
    found = {_first_untrusted(_hops(name, values), request) for name, values in given.items()}
    client = found.pop()
    if found or client is None:
        which = " and ".join(given)
        raise BadInput(f"The proxy at {peer} does not say clearly where you are, in {which}: {_ASK_WITH_ALLOW}.")
    return str(client)


def asked_host(request: web.Request) -> str:
    """Return HOST[:PORT] as the client asked for it: a trusted proxy's X-Forwarded-Host, else the Host header."""
    peer = peer_address(request)
    if peer is not None and is_trusted_proxy(peer, request):
        hosts = ",".join(request.headers.getall("X-Forwarded-Host", []))
        if host := hosts.rpartition(",")[2].strip():
            return host
        element = _elements(",".join(request.headers.getall("Forwarded", [])))
        if element and "host" in element[-1]:
            return element[-1]["host"]
    return request.host


def peer_address(request: web.Request) -> IpAddress | None:
    """Return the address from which the connection comes; a program at our UNIX socket is on this machine."""
    return LOOPBACK if is_by_unix_socket(request) else parse_address(request.remote or "")


def remote_for_log(request: web.Request) -> str:
    """Return the client's address, or the peer's when that is all that is known."""
    try:
        return client_address(request)
    except BadInput:
        return str(request.remote)


def _first_untrusted(hops: Iterable[IpAddress | None], request: web.Request) -> IpAddress | None:
    """Return the first address that is not a trusted proxy's, or the last if all are; None where one is illegible."""
    hop = None
    for hop in hops:
        if hop is None or not is_trusted_proxy(hop, request):
            break
    return hop


def _hops(name: str, values: Iterable[str]) -> Iterator[IpAddress | None]:
    """Yield the addresses from right to left."""
    joined = ",".join(values)
    if name == "Forwarded":
        elements = _elements(joined) or [{}]
        yield from (parse_address(element.get("for", "")) for element in reversed(elements))
    else:
        yield from (parse_address(part.strip()) for part in reversed(joined.split(",")))


def _elements(header: str) -> list[dict[str, str]] | None:
    """Return the pairs of each proxy of a Forwarded header; None if it is malformed."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(header):
        pair = _PAIR.match(header, at)
        if pair is None:
            return None
        name, quoted, token, end = pair.groups()
        elements[-1][name.lower()] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if end == ",":
            elements.append({})
        at = pair.end()
    return elements


def parse_address(text: str) -> IpAddress | None:
    """Return the address of "192.0.2.1", "192.0.2.1:4711", "2001:db8::1" or "[2001:db8::1]:4711"."""
    if bracketed := re.fullmatch(r"\[([^\]]*)\](?::\d{1,5})?", text, re.ASCII):
        text = bracketed[1]
    elif re.fullmatch(r"[\d.]+:\d{1,5}", text, re.ASCII):
        text = text.rpartition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_trusted_proxy(address: IpAddress, request: web.Request) -> bool:
    return any(address in network for network in request.app[SETTINGS].gateway.trusted_proxies)
