"""The HTTP proxy on the way to a gateway, as the environment or the system says: HTTPS_PROXY, NO_PROXY."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_for(url: str) -> str | None:
    """Return the proxy's URL. A gateway on plain HTTP is near, or it is not there: it is never asked by a proxy."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return None
    port = f":{parts.port}" if parts.port else ""
    if proxy_bypass(parts.hostname + port):
        return None
    proxy = getproxies().get("https")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None
