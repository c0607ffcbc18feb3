"""What the pages promise before any script of theirs has run."""

import re
from collections.abc import Mapping

import pytest

from noah.core.session.session import EndReason
from tests.integration.web.conftest import Gateway

pytestmark = pytest.mark.jvm
COOKIE = {"Cookie": "noah_user=ada%20l"}


async def _get(gateway: Gateway, path: str, headers: Mapping[str, str] = COOKIE) -> tuple[int, str, str]:
    async with gateway.http.get(gateway.url + path, headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/targets/local/shop", "/sessions", "/clusters", "/targets/local/who"])
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
    _, text, _ = await _get(gateway, "/", {**COOKIE, "Noah-Part": "1"})
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


@pytest.mark.parametrize("name", ["..%2fpages.py", "..%2ftemplates%2fbase.html", "nothing.js", "pages.py"])
async def test_only_what_is_for_browsers_is_served(gateway: Gateway, name: str) -> None:
    async with gateway.http.get(f"{gateway.url}/static/{name}") as answer:
        assert answer.status == 404


@pytest.mark.parametrize(
    ("back", "leads_to"),
    [("/sessions?q=1", "./sessions?q=1"), ("//evil.example", "./"), ("/\\evil", "./"), ("https://evil.example", "./")],
)
async def test_saying_who_one_is_leads_back_into_this_site(gateway: Gateway, back: str, leads_to: str) -> None:
    form = {"user": "ada l", "next": back}
    async with gateway.http.post(f"{gateway.url}/who", data=form, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, leads_to)
        cookie = answer.headers["Set-Cookie"]
    assert "noah_user=ada%20l;" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


@pytest.mark.parametrize(
    ("browser", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 409),  # it is ada's call, and nobody is attached
        ({"Origin": "HERE"}, 409),
        ({}, 400),
        ({"Sec-Fetch-Site": "none"}, 400),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
    ],
)
async def test_a_cookie_changes_things_from_our_own_pages_only(
    gateway: Gateway, browser: dict[str, str], status: int
) -> None:
    session = await gateway.api.ready("local/shop", user="ada l")
    sent = COOKIE | {name: gateway.url if value == "HERE" else value for name, value in browser.items()}
    async with gateway.http.post(f"{gateway.url}/api/v1/sessions/{session['id']}/resume", headers=sent) as answer:
        assert answer.status == status, await answer.text()


async def test_a_session_that_failed_just_now_is_shown_with_its_reason(gateway: Gateway) -> None:
    session = await gateway.api.ready("local/shop")
    reason = "The app <b> did not come up with its debug flags."
    await gateway.store.sessions.ask_end(session["id"], reason=EndReason.FAILED, detail=reason, by=None)
    await gateway.api.end(session)  # the first reason stays
    for user, whose in (("ada", "Your session"), ("bob", "The session of ada")):
        _, text, _ = await _get(gateway, "/targets/local/shop", {"Cookie": f"noah_user={user}"})
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
    assert event.data == {"session": session["id"], "owner": "ada", "by": "bob", "text": "my order hangs"}
