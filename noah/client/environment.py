"""Which gateway the environment names, and with which token it is asked: NOAH_URL, and NOAH_TOKEN or a login."""

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from noah.client.credentials import Credentials
from noah.client.gateway_client import ANSWER_S, CONNECT_S, GatewayClient, socket_path
from noah.errors import BadSettings

DEFAULT_URL = "http://127.0.0.1:7070"


def client_from_environment(
    environ: Mapping[str, str] = os.environ, *, connect_s: float = CONNECT_S, answer_s: float = ANSWER_S
) -> GatewayClient:
    """Return a client of the gateway that the environment names. Raises BadSettings."""
    url = gateway_url(environ)
    token = _token(environ) or Credentials(environ).token(url)
    if token is not None and not _keeps_secrets(url):
        raise BadSettings(
            f"Your login does not go over plain HTTP to another machine: is {url} reached by https as well?"
        )
    return GatewayClient(url, token, connect_s=connect_s, answer_s=answer_s)


def anonymous_client(environ: Mapping[str, str] = os.environ) -> GatewayClient:
    """Return a client that has not logged in. Raises BadSettings."""
    return GatewayClient(gateway_url(environ))


def gateway_url(environ: Mapping[str, str] = os.environ) -> str:
    url = (environ.get("NOAH_URL") or DEFAULT_URL).strip().rstrip("/")
    if (path := socket_path(url)) is not None and path.startswith("/") and path.isprintable():
        return url
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.query
    except ValueError:  # the port is not a number
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise BadSettings(
            f"NOAH_URL is {url[:80]!r}: write something like http://gateway.example.org:7070, or unix:/PATH."
        )
    return url


def _keeps_secrets(url: str) -> bool:
    """True if nobody on a network reads what goes to *url*."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_here = host in ("localhost", "::1") or host.endswith(".localhost")
    return (
        parts.scheme in ("https", "unix") or is_here or re.fullmatch(r"127(\.\d{1,3}){3}", host, re.ASCII) is not None
    )


def _token(environ: Mapping[str, str]) -> str | None:
    token = environ.get("NOAH_TOKEN", "").strip()
    if token and not re.fullmatch(r"[!-~]{1,8192}", token):
        raise BadSettings("NOAH_TOKEN is not a token: it has blanks, or characters that no token has.")
    return token or None
