"""Which hosts there are: those of the configuration, of its command, and of HTTP APIs.

A source that cannot be read, or whose hosts cannot be used, keeps the hosts that it had. What a source says is
believed: its hosts are reached by the keys of the gateway's machine, and its commands are run on them.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
from yarl import URL

from noah.errors import BadSettings
from noah.settings import Host, InventorySettings, Settings, parse_settings
from noah.targets import command

COMMAND_TAKES = 30.0  # seconds
HTTP_TAKES = 60.0  # seconds, for all pages
LONGEST_PAGE = 16 << 20  # bytes; a host takes some 500
MOST_PAGES = 1000


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer of an HTTP API, kept because the next one may be that nothing has changed."""

    etag: str | None
    hosts: Sequence[Any]
    after: URL | None


class HostSources:
    """Remembers what each source had."""

    def __init__(self) -> None:
        self.hosts: tuple[Host, ...] = ()  # as they were read last
        self.is_complete = False  # True once each source was read
        self._kept: dict[object, tuple[Host, ...]] = {}
        self._pages: dict[URL, _Page] = {}

    @classmethod
    async def of(cls, settings: Settings) -> Self:
        """Read what can be read now."""
        made = cls()
        await made.read(settings)
        return made

    async def read(self, settings: Settings) -> tuple[tuple[Host, ...], Sequence[str]]:
        """Return all hosts, and a sentence for each source that keeps what it had."""
        sources: list[tuple[str, object]] = [(one.url, one) for one in settings.inventory]
        if settings.hosts_command:
            sources.insert(0, (f"hosts_command ({settings.hosts_command[0]})", settings.hosts_command))
        self._kept = {source: self._kept[source] for _, source in sources if source in self._kept}
        found, troubles = {host.name: host for host in settings.hosts}, list[str]()
        for named, source in sources:
            try:
                read = self._asked(source) if isinstance(source, InventorySettings) else _printed(settings, named)
                self._kept[source] = await asyncio.to_thread(_hosts, await read, named)
            except BadSettings as e:
                troubles.append(e.sentence)
            for host in self._kept.get(source, ()):
                if found.setdefault(host.name, host) is not host:
                    troubles.append(f"{host.name} of {named} is left out: there is another host of that name.")
        self.is_complete = len(self._kept) == len(sources)
        self.hosts = tuple(found.values())
        return self.hosts, troubles

    async def _asked(self, source: InventorySettings) -> list[Any]:
        """Return what an API has on all its pages. Raises BadSettings."""
        try:
            connector = aiohttp.TCPConnector(ssl=await asyncio.to_thread(_trust, source.ca_file))
            headers = await asyncio.to_thread(_headers, source.token_file)
            timeout = aiohttp.ClientTimeout(total=None)
            async with (
                asyncio.timeout(HTTP_TAKES),
                aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as http,
            ):
                return await self._pages_of(http, source)
        except TimeoutError:
            raise BadSettings(f"{source.url} does not answer: it took longer than {HTTP_TAKES:.0f} s.") from None
        except (aiohttp.ClientError, OSError) as e:
            said = " ".join(str(getattr(e, "strerror", None) or e).split())
            raise BadSettings(f"{source.url} cannot be read: {said or type(e).__name__}.") from None

    async def _pages_of(self, http: aiohttp.ClientSession, source: InventorySettings) -> list[Any]:
        first = URL(source.url)
        after: URL | None = first
        hosts: list[Any] = []
        read: dict[URL, _Page] = {}
        while after is not None:
            if after.origin() != first.origin():
                raise BadSettings(f"{source.url} goes on at another server, {after.origin()}, which is not asked.")
            if after in read or len(read) == MOST_PAGES:
                raise BadSettings(f"{source.url} has pages without end.")
            page = read[after] = await self._page(http, after)
            hosts += page.hosts
            if len(hosts) > source.most_hosts:
                raise BadSettings(f"{source.url} has more than {source.most_hosts} hosts, which most_hosts allows.")
            after = page.after
        self._pages = {url: page for url, page in self._pages.items() if url.origin() != first.origin()} | read
        return hosts

    async def _page(self, http: aiohttp.ClientSession, url: URL) -> _Page:
        known = self._pages.get(url)
        headers = {"If-None-Match": known.etag} if known is not None and known.etag else {}
        async with http.get(url, headers=headers, allow_redirects=False) as answer:
            if answer.status == 304 and known is not None:
                return known
            if answer.status != 200:
                raise BadSettings(f"{url} answers {answer.status}, and not with hosts.")
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > LONGEST_PAGE:
                    raise BadSettings(f"{url} answers with more than {LONGEST_PAGE >> 20} MiB: let it have more pages.")
            page = await asyncio.to_thread(_page_in, bytes(body), url)
            after = page.after
            if after is None and (linked := answer.links.get("next")) is not None:
                after = URL(str(linked["url"]))
            return replace(page, etag=answer.headers.get("ETag"), after=None if after is None else url.join(after))


def _page_in(body: bytes, url: URL) -> _Page:
    try:
        answer = msgspec.json.decode(body)  # no other thread runs meanwhile, and it takes a fifth of the time of json's
    except (msgspec.DecodeError, RecursionError):
        raise BadSettings(f"{url} does not answer with JSON.") from None
    hosts, after = (answer.get("hosts"), answer.get("next")) if isinstance(answer, dict) else (answer, None)
    if not isinstance(hosts, list) or not isinstance(after, str | None):
        raise BadSettings(f'{url} has to answer with a list of hosts, or with {{"hosts": [...], "next": URL}}.')
    return _Page(None, hosts, URL(after) if after else None)


def _hosts(tree: list[Any], named: str) -> tuple[Host, ...]:
    return parse_settings({"hosts": tree}, origin=named).hosts


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file.expanduser()))
    except ssl.SSLError:
        raise BadSettings(f"{ca_file} is not a certificate in PEM form.") from None


def _headers(token_file: Path | None) -> Mapping[str, str]:
    headers = {"Accept": "application/json", "User-Agent": "noah"}
    if token_file is not None:
        headers["Authorization"] = f"Bearer {token_file.expanduser().read_text().strip()}"
    return headers


async def _printed(settings: Settings, named: str) -> list[Any]:
    """Return what the command prints. BadSettings, with what it said, if it fails or prints something else."""
    try:
        code, out, err = await command.run(
            settings.hosts_command, timeout=COMMAND_TAKES, stderr=asyncio.subprocess.PIPE
        )
    except TimeoutError:  # which is an OSError too
        raise BadSettings(f"{named} took longer than {COMMAND_TAKES:.0f} s.") from None
    except OSError as e:
        raise BadSettings(f"{named} cannot be run: {e.strerror}.") from None
    if code:
        said = err.decode("utf-8", "replace").strip().splitlines()
        raise BadSettings(f"{named} failed with exit code {code}: {said[-1] if said else 'it printed nothing'}.")
    try:
        tree = msgspec.json.decode(out)
    except (msgspec.DecodeError, RecursionError) as e:
        raise BadSettings(f"{named} does not print JSON: {e}.") from None
    if not isinstance(tree, list):
        raise BadSettings(f"{named} has to print a JSON list of hosts.")
    return tree
