"""An HTTP API that lists hosts, on pages, asked again and again: a CMDB.

What it sends has limits in bytes, pages, hosts and time. It is asked at no other server than the one that the
configuration names, since the token goes with each request.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from noah.core.printable import printable
from noah.errors import BadSettings
from noah.file_state import content_of
from noah.settings import InventorySettings
from noah.targets.host import hosts_json

TAKES_S = 60.0  # for all pages
LONGEST_PAGE = 16 << 20  # bytes; a host takes some 500
LONGEST_IN_ALL = 64 << 20  # bytes
LONGEST_URL = 2000  # characters
MOST_PAGES = 1000
LONGEST_SAID = 300  # characters of what went wrong, which may quote the server


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer, kept because the next one may be that nothing has changed."""

    etag: str | None
    digest: bytes  # of the answer; many APIs have no ETags
    hosts: Sequence[Any]
    after: URL | None
    size: int  # in bytes


class HostApi:
    def __init__(self) -> None:
        self._pages: dict[URL, _Page] = {}

    async def read(self, wanted: InventorySettings) -> list[Any]:
        """Return what it has on all its pages: the same objects as before, of a page that has not changed.

        Raises BadSettings with a sentence that names it.
        """
        named = without_secrets(wanted.url)
        try:
            connector = aiohttp.TCPConnector(ssl=await asyncio.to_thread(_trust, wanted.ca_file))
            headers = await asyncio.to_thread(_headers, wanted.token_file)
            timeout = aiohttp.ClientTimeout(total=None)
            async with (
                asyncio.timeout(TAKES_S),
                aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as http,
            ):
                return await self._read_pages(http, wanted)
        except TimeoutError:
            raise BadSettings(f"{named} does not answer: it took longer than {TAKES_S:.0f} s.") from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise BadSettings(f"{named} cannot be read: {_said(e)}.") from None

    async def _read_pages(self, http: aiohttp.ClientSession, wanted: InventorySettings) -> list[Any]:
        first = URL(wanted.url)
        after: URL | None = first
        hosts: list[Any] = []
        read: dict[URL, _Page] = {}
        while after is not None:
            if after.origin() != first.origin():
                raise ValueError("its next page is at another server, which is not asked")
            if after in read or len(read) == MOST_PAGES:
                raise ValueError("it has pages without end")
            page = read[after] = await self._page(http, after)
            hosts += page.hosts
            if len(hosts) > wanted.most_hosts:
                raise ValueError(f"it has more than {wanted.most_hosts} hosts, which most_hosts allows")
            if sum(one.size for one in read.values()) > LONGEST_IN_ALL:
                raise ValueError(f"it answers with more than {LONGEST_IN_ALL >> 20} MiB in all")
            after = page.after
        self._pages = read
        return hosts

    async def _page(self, http: aiohttp.ClientSession, url: URL) -> _Page:
        known = self._pages.get(url)
        headers = {"If-None-Match": known.etag} if known is not None and known.etag else {}
        async with http.get(url, headers=headers, allow_redirects=False) as answer:
            if answer.status == 304 and known is not None and known.etag:
                return known
            if answer.status != 200:
                raise ValueError(f"it answers {answer.status}, and not with hosts")
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > LONGEST_PAGE:
                    raise ValueError(f"it answers with more than {LONGEST_PAGE >> 20} MiB: let it have more pages")
            linked = str(answer.links["next"]["url"]) if "next" in answer.links else None
            etag = _sendable(answer.headers.get("ETag"))
            return await asyncio.to_thread(_page_of, bytes(body), url, linked, etag, known)


def without_secrets(url: str) -> str:
    """Return the address without what may be a key in it: a user's name and password, and the query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _page_of(body: bytes, url: URL, linked: str | None, etag: str | None, known: _Page | None) -> _Page:
    """Return a page. *linked*: what a header says of the next one; *known*: what it was before."""
    digest = sha256(body + (linked or "").encode(errors="replace")).digest()
    if known is not None and known.digest == digest:
        return replace(known, etag=etag)
    try:
        hosts, after = hosts_json.read_page(body)
    except ValueError as e:
        form = '{"hosts": [...], "next": URL}'
        raise ValueError(f"it has to answer with a list of hosts, or with {form}: {e}") from None
    return _Page(etag, digest, hosts, _next(url, after or linked), len(body))


def _next(url: URL, after: Any) -> URL | None:
    if after is None or after == "":
        return None
    if not isinstance(after, str) or len(after) > LONGEST_URL:
        raise ValueError(f"its next page has no address of at most {LONGEST_URL} characters")
    try:
        return url.join(URL(after))
    except ValueError:
        raise ValueError("the address of its next page is not a URL") from None


def _sendable(etag: str | None) -> str | None:
    """Return an ETag that can be sent back."""
    return etag if etag and etag.isascii() and etag.isprintable() else None


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        authority = None if ca_file is None else content_of(ca_file.expanduser()).decode("ascii", "ignore")
        return ssl.create_default_context(cadata=authority)
    except ssl.SSLError:
        raise ValueError(f"{ca_file} is not a certificate in PEM form") from None


def _headers(token_file: Path | None) -> Mapping[str, str]:
    headers = {"Accept": "application/json", "User-Agent": "noah"}
    if token_file is not None:
        token = content_of(token_file.expanduser()).decode("ascii", "replace").strip()
        if not (token.isascii() and token.isprintable() and token):
            raise ValueError(f"{token_file} does not hold a token, which is one line of ASCII")
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    # That of a response says its URL, which may have a key in it.
    said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return printable(" ".join(said.split()))[:LONGEST_SAID].rstrip(".") or type(error).__name__
