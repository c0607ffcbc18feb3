"""Which proxy the environment names for a URL: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as Go's programs read them.

The rules are those of golang.org/x/net/http/httpproxy, which kubectl follows where a kubeconfig has no proxy-url.
"""

import ipaddress
from collections.abc import Mapping

from yarl import URL

SCHEMES = ("http", "https", "socks5")


def proxy_from(environment: Mapping[str, str], url: URL) -> URL | None:
    """Return the proxy for *url*, or None. Raise ValueError when the variable holds something else than a proxy."""
    name = "HTTPS_PROXY" if url.scheme == "https" else "HTTP_PROXY"
    value = _variable(environment, name)
    if not value or _is_exempt(url.host or "", url.port or 0, _variable(environment, "NO_PROXY")):
        return None
    proxy = URL(value if "://" in value else f"http://{value}")
    if proxy.scheme == "socks5h":  # to Go the same: the proxy resolves names for both
        proxy = proxy.with_scheme("socks5")
    if proxy.scheme not in SCHEMES or not proxy.host:
        raise ValueError(f"{name} of the environment is not an http, https or socks5 URL")
    return proxy


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.lower()) or ""


def _is_exempt(host: str, port: int, no_proxy: str) -> bool:
    host = host.lower().rstrip(".")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(
        _matches(part, host, address, port) for part in (one.strip().lower() for one in no_proxy.split(",")) if part
    )


def _matches(part: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if part == "*":
        return True
    if "/" in part:
        try:
            return address is not None and address in ipaddress.ip_network(part, strict=False)
        except ValueError:
            return False
    name, wanted_port = _split(part)
    if wanted_port and wanted_port != str(port):
        return False
    if (exempt := _address(name)) is not None:
        return address == exempt
    name = name.removeprefix("*")
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith("." + name)


def _split(part: str) -> tuple[str, str]:
    """Split a host from its port, if it has one; an IPv6 address stands in brackets then."""
    if part.startswith("["):
        name, _, rest = part[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = part.rpartition(":")
    return (name, port) if colon and ":" not in name and port.isdigit() else (part, "")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
