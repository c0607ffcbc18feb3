"""Whatever the site serves has been declared, with the right that it needs."""

import re
from datetime import UTC, datetime

import pytest

from noah.access.tokens import TokenFile
from noah.core.session.rights import Right
from noah.web.api.route import AnyRoute
from noah.web.api.routes import ROUTES
from noah.web.pages.routes import PAGES
from tests.integration.web.conftest import Gateway

pytestmark = pytest.mark.jvm


async def test_every_route_of_the_site_names_the_right_that_it_needs(gateway: Gateway) -> None:
    declared: dict[object, AnyRoute] = {route.serve: route for route in (*ROUTES, *PAGES)}
    served = list(gateway.server.app.router.routes())
    undeclared = [f"{route.method} {route.resource}" for route in served if route.handler not in declared]
    assert undeclared == []
    assert all(isinstance(declared[route.handler].right, Right) for route in served)


def test_only_probes_the_help_and_what_a_login_needs_ask_for_no_right() -> None:
    open_to_anybody = {route.path.partition("{")[0] for route in (*ROUTES, *PAGES) if route.right is Right.ANYBODY}
    assert open_to_anybody == {
        "/livez",
        "/readyz",
        "/static/",
        "/help",
        "/login",
        "/login/with/",
        "/login/back/",
        "/login/allow",
        "/logout",
        "/api/v1/logins",
        "/api/v1/logins/devices",
        "/api/v1/logins/providers",
        "/api/v1/token",
    }


def test_whatever_changes_something_asks_for_more_than_to_see_it() -> None:
    changing = {f"{route.method} {route.path}": route.right for route in (*ROUTES, *PAGES) if route.method != "GET"}
    # Asking somebody changes nothing of theirs; a login is one's own.
    asking = {
        "POST /api/v1/sessions/{id}/ask": Right.SEE,
        "POST /api/v1/logins": Right.ANYBODY,
        "POST /api/v1/logins/devices": Right.ANYBODY,
        "POST /api/v1/token": Right.ANYBODY,
        "POST /login": Right.ANYBODY,
        "POST /login/allow": Right.ANYBODY,
        "POST /logout": Right.ANYBODY,
        "DELETE /api/v1/logins/mine": Right.SEE,
    }
    assert {name: right for name, right in changing.items() if right in (Right.SEE, Right.ANYBODY)} == asking


async def test_a_stranger_gets_nothing_from_any_route(gateway: Gateway) -> None:
    """An answer whose handler asked for no right would not come at all; this looks at those that come."""
    session = (await gateway.api.enable("local/shop", wait=20))["id"]
    token = TokenFile(gateway.tokens).create("mallory", groups=[], now=datetime.now(UTC), expires_at=None)
    values = {"id": session, "name": "away", "target": "local/shop", "format": "jdb", "provider": "none"}
    values |= {"environment": "local", "cluster": "away", "namespace": "team-a", "workload": "shop"}
    bodies = {
        "/api/v1/sessions": {"target": "local/shop"},
        "/api/v1/releases": {"cluster": "away", "namespace": "team-a", "workload": "shop"},
        "/api/v1/clusters/away/doctor": {},
    }
    empty = set()
    for route in (*ROUTES, *PAGES):
        if route.right is Right.ANYBODY:
            continue
        path = re.sub(r"{(\w+)(:.*)?}", lambda match: values[match[1]], route.path)
        async with gateway.http.request(
            route.method,
            gateway.url + path,
            headers={"Authorization": f"Bearer {token}"},
            json=bodies.get(path) if route.method == "POST" else None,
            allow_redirects=False,
        ) as answer:
            if answer.status == 200:
                empty.add(f"{route.method} {route.path}")
                body = "" if "event-stream" in answer.content_type else await answer.text()
                assert session not in body, path
                assert "local/shop" not in body, path
            else:
                assert answer.status in (400, 403, 404), (route.method, path, answer.status)
    assert empty == {
        *(
            "GET /api/v1/environments",
            "GET /api/v1/clusters",
            "GET /api/v1/targets",
            "GET /api/v1/apps",
            "GET /api/v1/names",
            "GET /api/v1/sessions",
        ),
        *("GET /api/v1/sessions.csv", "GET /api/v1/sessions.jsonl", "GET /api/v1/events", "GET /api/v1/releases"),
        *("GET /openapi.json", "GET /api/v1/me", "DELETE /api/v1/logins/mine"),
        *("GET /", "GET /targets", "GET /sessions", "GET /releases", "GET /clusters"),
    }
    assert (await gateway.api.ask("GET", f"sessions/{session}"))["status"] == "ready"
