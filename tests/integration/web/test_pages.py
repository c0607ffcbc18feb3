"""What the pages promise before any script of theirs has run."""

import re
from collections.abc import Mapping
from types import MappingProxyType

import pytest
from yarl import URL

from noah.core.session.session import EndReason
from tests.integration.web.conftest import Gateway
from tests.principals import ADA, BOB

pytestmark = pytest.mark.jvm
NONE: Mapping[str, str] = MappingProxyType({})  # of the user who runs the tests, and the gateway


async def _get(gateway: Gateway, path: str, headers: Mapping[str, str] = NONE) -> tuple[int, str, str]:
    async with gateway.http.get(gateway.url + path, headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers["Content-Security-Policy"]


PATHS = ["/", "/targets/local/shop", "/sessions", "/clusters", "/targets/local/nobody", "/login"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_runs_only_what_has_its_nonce(gateway: Gateway, path: str) -> None:
    _, text, policy = await _get(gateway, path)
    nonce = re.search(r"script-src 'nonce-([\w-]+)';", policy)
    assert nonce is not None
    assert "unsafe" not in policy
    scripts = re.findall(r"<script[^>]*>", text)
    assert scripts
    assert all(f'nonce="{nonce[1]}"' in script for script in scripts)
    assert not re.search(r"\son\w+=|\sstyle=", text)


async def test_a_part_is_the_page_without_its_frame(gateway: Gateway) -> None:
    _, text, _ = await _get(gateway, "/", {"Noah-Part": "1"})
    assert "local/shop" in text
    assert "<html" not in text


async def test_what_is_not_there_is_a_page_that_says_so(gateway: Gateway) -> None:
    status, text, _ = await _get(gateway, "/sessions/s-none")
    assert status == 404
    assert "There is no session" in text
    for path, accept, said in (
        ("/<b>", "text/html,*/*;q=0.8", "There is no page at /&lt;b&gt;."),
        ("/nowhere", "*/*", '"detail": "There is nothing at /nowhere'),
        ("/api/v1/nowhere", "text/html", '"detail": "There is nothing at /api/v1/nowhere'),
    ):
        status, text, _ = await _get(gateway, path, {"Accept": accept})
        assert (status, said in text) == (404, True), text


async def test_an_error_links_to_what_the_gateway_says_of_its_kind(gateway: Gateway) -> None:
    session = URL(f"{gateway.url}/api/v1/sessions/s-none")
    async with gateway.http.get(session) as answer:
        link = session.join(URL((await answer.json(content_type=None))["type"]))
    assert (link.path, link.fragment) == ("/help", "not-found")
    status, help_page, _ = await _get(gateway, "/help")
    assert status == 200
    assert '<section class="card" id="not-found"' in help_page
    assert "<code>noah sessions</code> list what there is." in help_page
    assert "](" not in help_page
    _, page, _ = await _get(gateway, "/sessions/s-none")
    assert 'href="../help#not-found"' in page


@pytest.mark.parametrize("name", ["..%2fpages.py", "..%2ftemplates%2fbase.html", "nothing.js", "pages.py"])
async def test_only_what_is_for_browsers_is_served(gateway: Gateway, name: str) -> None:
    async with gateway.http.get(f"{gateway.url}/static/{name}") as answer:
        assert answer.status == 404


async def test_a_session_that_failed_just_now_is_shown_with_its_reason(gateway: Gateway) -> None:
    session = await gateway.api.ready("local/shop")
    reason = "The app <b> did not come up with its debug flags."
    await gateway.store.sessions.ask_end(session["id"], reason=EndReason.FAILED, detail=reason, by=None)
    await gateway.api.end(session)  # the first reason stays
    for user, whose in (("ada", "Your session"), ("bob", "The session of ada")):
        _, text, _ = await _get(gateway, "/targets/local/shop", gateway.api.headers(user))
        [shown] = re.findall(r'<p id="failed"[^>]*>(.*?)</p>', text)
        assert whose in shown
        assert "The app &lt;b&gt; did not come up" in shown


async def test_a_holder_is_told_that_somebody_asks(gateway: Gateway) -> None:
    session = await gateway.api.ready("local/shop")
    watched = gateway.feed.watch(gateway.feed.last_id)
    await gateway.api.ask("POST", f"sessions/{session['id']}/ask", {"text": "my order hangs"}, user="bob")
    event = await anext(watched)
    await watched.aclose()
    assert (event.kind, event.subject) == ("asked", "local/shop")
    assert event.data == {
        "session": session["id"],
        "environment": "local",
        "owner": "ada",
        "owner_principal": ADA.public(),
        "by": "bob",
        "by_principal": BOB.public(),
        "text": "my order hangs",
    }


async def test_what_of_the_configuration_cannot_be_read_is_named_to_operators_only(gateway: Gateway) -> None:
    gateway.not_followed = "https://cmdb.example/hosts cannot be read."
    gateway.api.admit("grace")
    try:
        for path in ("/targets", "/clusters"):
            _, shown, _ = await _get(gateway, path)
            _, hidden, _ = await _get(gateway, path, gateway.api.headers("grace"))
            assert "cmdb.example" in shown
            assert "cmdb.example" not in hidden
            assert "The gateway goes by an earlier configuration" in hidden
    finally:
        gateway.not_followed = None
