"""Whatever the site serves has been declared, with the right that it needs."""

import pytest

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


def test_only_probes_of_machines_and_what_a_login_needs_ask_for_no_right() -> None:
    open_to_anybody = {route.path.partition("{")[0] for route in (*ROUTES, *PAGES) if route.right is Right.ANYBODY}
    assert open_to_anybody == {
        "/livez",
        "/readyz",
        "/static/",
        "/login",
        "/login/with/",
        "/login/back/",
        "/login/allow",
        "/logout",
        "/api/v1/logins",
        "/api/v1/logins/devices",
        "/api/v1/logins/providers",
    }


def test_whatever_changes_something_asks_for_more_than_to_see_it() -> None:
    changing = {f"{route.method} {route.path}": route.right for route in (*ROUTES, *PAGES) if route.method != "GET"}
    # Asking somebody changes nothing of theirs; a login is one's own.
    asking = {
        "POST /api/v1/sessions/{id}/ask": Right.SEE,
        "POST /api/v1/logins": Right.ANYBODY,
        "POST /api/v1/logins/devices": Right.ANYBODY,
        "POST /login": Right.ANYBODY,
        "POST /login/allow": Right.ANYBODY,
        "POST /logout": Right.ANYBODY,
        "DELETE /api/v1/logins/mine": Right.SEE,
    }
    assert {name: right for name, right in changing.items() if right in (Right.SEE, Right.ANYBODY)} == asking
