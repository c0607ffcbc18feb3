"""Every call of the table answers as openapi.json says, in the good case and in bad ones."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import TypeAdapter

from noah.core.release.release import Progress, Release, Result
from noah.core.release.release_event import ReleaseEvent, ReleaseEventKind
from noah.core.workload import WorkloadKind
from noah.store import Store
from noah.web.api.route import AnyRoute, Raw, Route
from noah.web.api.routes import ROUTES
from noah.web.problems import Problem
from tests.integration.web.conftest import Gateway, serving

pytestmark = [pytest.mark.jvm, pytest.mark.asyncio(loop_scope="module")]

JSON_ROUTES = [route for route in ROUTES if isinstance(route, Route)]
BODIES: Mapping[str, Any] = {
    "POST /api/v1/sessions": {"target": "local/shop"},
    "POST /api/v1/sessions/{id}/extend": {"for": "2h"},
    "POST /api/v1/sessions/{id}/ask": {},
    "POST /api/v1/logins": {"code": "x", "verifier": "x"},
    "POST /api/v1/logins/devices": {"provider": "nowhere"},
    "POST /api/v1/sessions/{id}/share": {"with": "bob"},
    "POST /api/v1/clusters/{name}/doctor": {},
    "POST /api/v1/releases": {"cluster": "away", "namespace": "team-a", "workload": "shop"},
}
RELEASE = Release(
    id="r-1",
    cluster="away",
    namespace="team-a",
    environment="team-a",
    kind=WorkloadKind.DEPLOYMENT,
    workload="shop",
    revision="3",
    started_at=datetime(2026, 1, 1, 7, tzinfo=UTC),
    ended_at=datetime(2026, 1, 1, 8, tzinfo=UTC),
    progress=Progress(Result.DONE, 3, 3, "3 of 3 online"),
)
# What cannot be had here: nobody is attached, no provider of logins is there, no session is shared with its own owner,
# the cluster does not answer, and nothing of the inventory waits to be confirmed.
REFUSED = {
    "POST /api/v1/sessions/{id}/resume": 409,
    "POST /api/v1/sessions/{id}/join": 403,
    "POST /api/v1/sessions/{id}/take": 403,
    "POST /api/v1/logins": 401,
    "POST /api/v1/logins/devices": 404,
    "POST /api/v1/releases": 503,
    "POST /api/v1/inventory/confirm": 409,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(jvm: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("web")
    async with serving(jvm, folder) as gateway:
        store = Store.open(f"sqlite:///{gateway.database}")
        await store.releases.save(
            RELEASE, [(1, ReleaseEvent("2026-01-01T08:00:00.000000Z", ReleaseEventKind.END, "3 of 3 online"))]
        )
        await store.close()
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def document(running: Gateway) -> dict[str, Any]:
    async with running.http.get(f"{running.url}/openapi.json") as answer:
        read: dict[str, Any] = await answer.json()
        return read


def _name(route: AnyRoute) -> str:
    return f"{route.method} {route.path}"


def _has_type(body: str, type_: Any) -> Any:
    """Whatever is in *body* beyond the type, or is only like it, would not come back."""
    assert TypeAdapter(type_).validate_json(body) == json.loads(body)
    return json.loads(body)


async def _url(gateway: Gateway, route: AnyRoute) -> str:
    id = RELEASE.id
    if "/sessions/{id}" in route.path:
        id = (await gateway.api.enable("local/shop", wait=20))["id"]
    values = {"id": id, "name": "away", "target": "local/shop", "format": "eclipse"}
    values |= {"environment": "local", "cluster": "away", "namespace": "team-a", "workload": "shop"}
    return gateway.url + re.sub(r"{(\w+)(:.*)?}", lambda match: values[match[1]], route.path)


@pytest.mark.parametrize("route", JSON_ROUTES, ids=_name)
async def test_a_calls_answer_is_of_its_own_type(running: Gateway, route: Route) -> None:
    async with running.http.request(
        route.method,
        await _url(running, route),
        json=BODIES.get(_name(route)),
        headers=running.api.headers(),
    ) as answer:
        body = await answer.text()
    if _name(route) in REFUSED:
        assert answer.status == REFUSED[_name(route)]
        assert answer.status in {error.http_status for error in route.errors}
        _has_type(body, Problem)
    else:
        assert answer.status in route.statuses, body
        _has_type(body, route.answer)


@pytest.mark.parametrize("route", ROUTES, ids=_name)
async def test_a_parameter_that_nobody_knows_is_named(running: Gateway, route: AnyRoute) -> None:
    url = await _url(running, route)
    async with running.http.request(
        route.method, url, params={"colour": "red"}, json=BODIES.get(_name(route)), headers=running.api.headers()
    ) as answer:
        problem = _has_type(await answer.text(), Problem)
    assert answer.status == 400
    assert answer.content_type == "application/problem+json"
    assert "'colour'" in problem["detail"]


@pytest.mark.parametrize("route", ROUTES, ids=_name)
async def test_every_answer_says_what_a_browser_may_do_with_it(running: Gateway, route: AnyRoute) -> None:
    async with running.http.request(
        route.method, await _url(running, route), headers={"X-Request-Id": "0123abcd"}
    ) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Request-Id"] == "0123abcd"


@pytest.mark.parametrize("route", ROUTES, ids=_name)
async def test_every_call_is_documented(document: dict[str, Any], route: AnyRoute) -> None:
    path = re.sub(r":.*}", "}", route.path)
    operation = document["paths"][path][route.method.lower()]
    assert operation["summary"]
    assert {p["name"] for p in operation["parameters"] if p["in"] == "path"} == set(re.findall(r"{(\w+)}", path))
    assert ("requestBody" in operation) == (_name(route) in BODIES)
    assert "400" in operation["responses"]
    if isinstance(route, Raw):
        assert set(operation["responses"]["200"]["content"]) == set(route.content_types)


@pytest.mark.parametrize("path", ["/openapi.json", "/api/v1/sessions/{id}/ide/{format}"])
async def test_json_that_is_not_of_a_type_of_ours_is_documented_as_json(document: dict[str, Any], path: str) -> None:
    content = document["paths"][path]["get"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"type": "object"}


async def test_the_document_refers_only_to_what_is_in_it(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert names == set(document["components"]["schemas"])
    assert {"SessionJson", "TargetJson", "EnableBody", "Problem"} <= names
    operations = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(operations) == len(set(operations))


async def test_the_document_says_for_and_continue_as_they_are_sent(document: dict[str, Any]) -> None:
    assert set(document["components"]["schemas"]["EnableBody"]["properties"]) == {
        "target", "for", "allow", "allow_exit", "pause_budget", "take_over", "confirm_restart",
    }  # fmt: skip
    names = [p["name"] for p in document["paths"]["/api/v1/targets"]["get"]["parameters"]]
    assert "continue" in names
