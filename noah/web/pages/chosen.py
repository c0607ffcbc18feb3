"""Which environments somebody has pinned, or used last, as their browser keeps it in a cookie.

It is the browser's and not the store's: it says where one person clicks, changes with every click, and is of no use to
anybody else. It is a cookie, since the gateway renders the page; static/environments.js writes it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import web

COOKIE = "noah-environments"
MOST = 20  # names of each kind; a cookie has 4 KiB


@dataclass(frozen=True, slots=True)
class Chosen:
    pinned: Sequence[str] = ()
    last: Sequence[str] = ()  # the last one first


def chosen_of(request: web.Request) -> Chosen:
    """Return what the browser has sent; nothing of what is not as our script writes it."""
    try:
        tree = json.loads(unquote(request.cookies.get(COOKIE, "")))
        return Chosen(_names(tree["pinned"]), _names(tree["last"]))
    except (ValueError, LookupError, TypeError, RecursionError):
        return Chosen()


def _names(found: object) -> Sequence[str]:
    if not isinstance(found, list):
        raise TypeError
    return [name for name in found[:MOST] if isinstance(name, str)]
