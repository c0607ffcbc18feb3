"""The real npm package oidc-provider as a process, and a person who logs in at it without a browser."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from tests.ports import free_port

SOURCE = Path(__file__).parent
INSTALLED = SOURCE.parents[1] / "build" / "oidc"  # package and server; npm looks for packages beside the server
COMES_UP_WITHIN_S = 60
SCOPES = '["profile", "email", "groups", "offline_access"]'
SECRET = "the secret of the client noah"


class OidcServer:
    def __init__(self, url: str, http: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> None:
        self.url = url
        self._http = http
        self._process = process

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def control(self, what: str, **given: Any) -> Any:
        async with self._http.post(f"{self.url}/control/{what}", json=given) as answer:
            text = await answer.text()
            assert answer.status == 200, text
            return json.loads(text)

    async def person(self, sub: str, *groups: str, **claims: Any) -> None:
        """Say who somebody is; their groups from now on."""
        said = {"preferred_username": sub, "groups": list(groups), **claims}
        await self.control("people", **{sub: said})

    async def token(self, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """Return a token that the provider has signed."""
        signed: str = await self.control("sign", claims=claims, header=header or {})
        return signed


@asynccontextmanager
async def oidc_server(
    redirects: Sequence[str], *, registered: Mapping[str, Any] | None = None, **more: Any
) -> AsyncIterator[OidcServer]:
    """A provider that knows the client "noah", which may send people back to *redirects*.

    *registered*: what else the client is registered with.
    """
    await asyncio.to_thread(_install)
    port = free_port()
    grants = ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"]
    client = {
        "client_id": "noah",
        "client_secret": SECRET,
        "redirect_uris": list(redirects),
        "post_logout_redirect_uris": [urljoin(redirects[0], "/login")],
        "grant_types": grants,
        "response_types": ["code"],
        **(registered or {}),
    }
    given = json.dumps({"port": port, "clients": [client], **more})
    process = await asyncio.create_subprocess_exec(
        "node", str(INSTALLED / "server.js"), given, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(COMES_UP_WITHIN_S):
            while (line := await process.stdout.readline()) and not line.startswith(b"http://127.0.0.1"):
                pass
        assert line, "oidc-provider has ended"
        async with aiohttp.ClientSession() as http:
            yield OidcServer(line.decode().strip(), http, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _install() -> None:
    """Install the package as package-lock.json has it, once."""
    import fcntl
    import subprocess

    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (SOURCE / "package-lock.json").read_bytes()
        there = INSTALLED / "package-lock.json"
        shutil.copy(SOURCE / "server.js", INSTALLED)
        if not (INSTALLED / "node_modules").is_dir() or not there.exists() or there.read_bytes() != wanted:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCE / name, INSTALLED)
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=INSTALLED, check=True, capture_output=True)


class Person:
    """Somebody with a browser that shows nothing: follows links and fills in the provider's forms."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def __aenter__(self) -> "Person":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def get(self, url: str, **more: Any) -> tuple[URL, str]:
        """Follow *url* to its page; return where that is, and its text."""
        async with self.http.get(URL(url, encoded=True), **more) as answer:
            return answer.url, await answer.text()

    async def log_in(self, url: str, *, until: str) -> tuple[URL, str]:
        """Follow *url*, log in and agree to what is asked for; return the page whose address begins with *until*."""
        at, text = await self.get(url)
        for _ in range(6):
            if str(at).startswith(until):
                return at, text
            at, text = await self.submit(at, text)
        raise AssertionError(f"the provider does not come to an end: {at} {text[:2000]}")

    async def submit(self, at: URL, text: str, **fields: str) -> tuple[URL, str]:
        """Send the page's form, with what people type."""
        form = re.search(r'<form[^>]*action="([^"]*)"', text)
        assert form is not None, text[:2000]
        hidden = re.findall(r'<input[^>]*type="hidden"[^>]*name="([^"]*)"[^>]*value="([^"]*)"', text)
        data = {name: unescape(value) for name, value in hidden}
        if 'name="login"' in text:
            data |= {"login": self.name, "password": "any"}
        target = urljoin(str(at), unescape(form[1]))
        async with self.http.post(target, data={**data, **fields}, headers={"Origin": _origin(target)}) as answer:
            return answer.url, await answer.text()


def _origin(url: str) -> str:
    return str(URL(url).origin())
