"""Which gateway the environment names, and as whom it is asked: NOAH_URL and NOAH_USER."""

import getpass
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from noah.client.gateway_client import ANSWER_S, CONNECT_S, GatewayClient
from noah.errors import BadSettings

DEFAULT_URL = "http://127.0.0.1:7070"


def client_from_environment(
    environ: Mapping[str, str] = os.environ, *, connect_s: float = CONNECT_S, answer_s: float = ANSWER_S
) -> GatewayClient:
    """Return a client of the gateway that the environment names. Raises BadSettings."""
    return GatewayClient(_url(environ), _user(environ), connect_s=connect_s, answer_s=answer_s)


def _url(environ: Mapping[str, str]) -> str:
    url = (environ.get("NOAH_URL") or DEFAULT_URL).strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.query
    except ValueError:  # the port is not a number
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise BadSettings(f"NOAH_URL is {url[:80]!r}: write something like http://gateway.example.org:7070.")
    return url


def _user(environ: Mapping[str, str]) -> str:
    try:
        user = environ.get("NOAH_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        raise BadSettings("Your login has no name on this machine: set NOAH_USER to say who you are.") from None
    if not user.isprintable() or not user.strip() or len(user) > 128:
        raise BadSettings(f"NOAH_USER is {user[:40]!r}: a name has 1 to 128 printable characters.")
    return user
