"""The site on a real socket: malformed requests, other sites' pages, and what a request leaves in the log."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from noah.process_log import FORMAT, Malformed, OneLine
from noah.web.api.routes import ROUTES
from noah.web.pages.routes import PAGES
from tests.integration.web.conftest import Gateway, serving
from tests.ports import free_port


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with serving(free_port(), tmp_path) as gateway:
        yield gateway


FORM = "multipart/form-data; boundary=x"
BODIES = [
    (b"", "application/json"),
    (b"{", "application/json"),
    (b"null", "application/json"),
    (b"[" * 60_000, "application/json"),
    (b'{"target": 1e999, "for": -1}', "application/json"),
    (json.dumps({"target": ["x"] * 9000}).encode(), "application/json"),
    (b"\xff\xfe\x00", "application/json"),
    (b"{}" * 40_000, "application/json"),
    (b"--x\r\nContent-Disposition: form-data", FORM),
    (b'--x\r\nContent-Disposition: form-data; name="token"; filename="\x00"\r\n\r\n', FORM),
    (b"--x\r\n" * 5000, FORM),
    (b"a=" + b"%" * 60_000, "application/x-www-form-urlencoded"),
    (b"&".join(b"a%d=1" % i for i in range(9000)), "application/x-www-form-urlencoded"),
    (b"token=%ff%00", "application/x-www-form-urlencoded"),
    (b"x", "nonsense"),
    (b"x", "text/plain; charset=nonsense"),
]


async def test_no_malformed_request_is_more_than_a_refusal_in_one_line(
    site: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    routes = [route for route in (*ROUTES, *PAGES) if route.method != "GET"]
    assert len(routes) > 5
    for route in routes:
        path = route.path.replace("{id}", "s-1").replace("{", "").replace("}", "")
        for body, content_type in BODIES:
            headers = {"Content-Type": content_type, "Sec-Fetch-Site": "same-origin"}
            async with site.http.request(
                route.method, site.url + path, data=body, headers=headers, allow_redirects=False
            ) as answer:
                assert answer.status < 500 or answer.status == 503, (route.method, path, body[:40], answer.status)
                if answer.content_type.endswith("json") and answer.status >= 400:
                    problem = await answer.json(content_type=None)
                    sentence = problem["detail"] if "detail" in problem else problem["error_description"]  # of RFC 6749
                    assert "\n" not in sentence
    assert "Traceback" not in caplog.text


async def test_a_compressed_body_that_unpacks_to_gigabytes_is_refused(site: Gateway) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    body = gzip.compress(bytes(1 << 26), 9)
    async with site.http.post(f"{site.url}/api/v1/sessions", data=body, headers=headers) as answer:
        assert 400 <= answer.status < 500


@pytest.mark.parametrize("path", ["/api/v1/apps", "/api/v1/me", "/api/v1/events", "/metrics", "/api/v1/sessions.csv"])
async def test_a_page_of_another_site_has_no_call_answered_not_even_one_that_reads(site: Gateway, path: str) -> None:
    """On loopback a browser is believed for its user, whatever page has an <img> of ours."""
    for how in (
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ):
        async with site.http.get(site.url + path, headers=how) as answer:
            assert answer.status == 403, how


async def test_a_link_of_another_site_to_one_of_our_pages_is_followed(site: Gateway) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    async with site.http.get(f"{site.url}/", headers=link, allow_redirects=False) as answer:
        assert answer.status < 400
    async with site.http.get(f"{site.url}/api/v1/clusters", headers=link) as answer:
        assert answer.status == 403
    async with site.http.get(f"{site.url}/api/v1/me", headers={"Sec-Fetch-Site": "same-origin"}) as answer:
        assert answer.status == 200


ACTING = ("/api/v1/drift", "/api/v1/clusters/away/doctor", "/api/v1/releases")


@pytest.mark.parametrize("path", ACTING)
async def test_what_makes_the_gateway_act_is_not_a_read_and_other_sites_cannot_send_it(
    site: Gateway, path: str
) -> None:
    """A GET asks no host, no pod and no workload, even if a person sends it; a POST is taken from our own pages."""
    for method in ("GET", "HEAD"):
        async with site.http.request(method, site.url + path) as answer:
            assert answer.status == 405 or path == "/api/v1/releases", method  # the list of those that are known
    for other in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
    ):
        bodies: tuple[dict[str, Any], ...] = ({"json": {}}, {"data": {"cluster": "away", "workload": "w"}})
        for body in bodies:
            async with site.http.post(site.url + path, headers=other, **body) as answer:
                assert answer.status == 403, (other, body)


PATHS = (b"/%1b[2J", b"/%0a2026-01-01%2000:00:00%20INFO%20noah%20forged", b"/%c2%9b2J", b"/%e2%80%ae", b"/a?\x1b[2J")


async def test_a_path_forges_no_line_of_the_log(site: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = logging.getLogger("aiohttp.server")
    server.addFilter(malformed := Malformed())
    for path in PATHS:
        reader, writer = await asyncio.open_connection(site.server.host, site.server.port)
        writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.")
        writer.close()
    server.removeFilter(malformed)
    lines = [OneLine(FORMAT).format(record) for record in caplog.records]
    assert len(lines) >= len(PATHS) - 1
    assert all(line.isprintable() for line in lines)


async def test_a_request_that_names_another_host_is_not_answered(site: Gateway) -> None:
    for host in ("evil.example", "evil.example:7070", "127.0.0.1.evil.example"):
        async with site.http.get(f"{site.url}/api/v1/me", headers={"Host": host}) as answer:
            assert answer.status == 421


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/v1/me HTTP/1.1\r\nHost: x\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 44\r\n\r\nGET /api/v1/me HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"X: a\nb: c\r\n\r\n",
        b"X: a\x00b\r\n\r\n",
    ],
)
async def test_a_request_with_two_borders_is_refused_and_its_connection_closed(site: Gateway, smuggled: bytes) -> None:
    reader, writer = await asyncio.open_connection(site.server.host, site.server.port)
    writer.write(b"POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\n" + smuggled)
    async with asyncio.timeout(20):
        got = await reader.read()
    writer.close()
    assert got.count(b"HTTP/1.1 ") <= 1, got
    assert b" 200 " not in got.split(b"\r\n", 1)[0]
