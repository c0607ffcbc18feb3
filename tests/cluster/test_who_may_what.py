"""Who may what, judged by the real API server's RBAC: every route for everybody, and what never arrives.

One gateway and one app serve all of this. People come in as a trusted proxy names them; the operator has a token, and a
portal signs that it acts for the owner.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import ECKey
from playwright.async_api import Browser, BrowserContext
from yarl import URL

from noah.core.release.release import Progress, Release, Result
from noah.core.release.release_event import ReleaseEvent, ReleaseEventKind
from noah.core.session.principal import Principal, PrincipalKind
from noah.core.session.rights import Right
from noah.core.workload import WorkloadKind
from noah.demo.debugger import jdb
from noah.settings import ClusterSettings, GrantSettings
from noah.web.api.route import AnyRoute, Call, Reply, Route
from noah.web.api.routes import ROUTES
from noah.web.keys import BROKER
from noah.web.pages.page import PageRoute
from noah.web.pages.routes import PAGES
from noah.web.wire import Nothing
from tests.browser.conftest import launched
from tests.cluster.conftest import Kubectl
from tests.cluster.execs import AuditLog
from tests.integration.web.conftest import Gateway, serving
from tests.ports import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.jvm, pytest.mark.asyncio(loop_scope="module")]

SECRET = "of the proxy, for tests"
PEOPLE = ("nobody", "stranger", "colleague", "owner", "operator", "portal")
NOT_LOGGED_IN, GONE, REFUSED = 401, 404, 403
# What each of PEOPLE gets. The colleague may `get pods`, the owner `create` and `get pods/exec` and `get pods/log` too.
# The portal may see and debug for people who may; those whom it names are others than those whom the proxy names.
EVERYBODY = (200,) * 6
LOGGED_IN = (NOT_LOGGED_IN, 200, 200, 200, 200, 200)
WHO_SEES = (NOT_LOGGED_IN, GONE, 200, 200, 200, 200)
WHO_READS_LOGS = (NOT_LOGGED_IN, GONE, REFUSED, 200, 200, REFUSED)
OPERATORS_ONLY = (NOT_LOGGED_IN, REFUSED, REFUSED, REFUSED, 200, REFUSED)
EXPECTED: Mapping[str, tuple[int, int, int, int, int, int]] = {
    "GET /api/v1/environments": LOGGED_IN,
    "GET /api/v1/environments/{environment}": WHO_SEES,
    "GET /api/v1/clusters": LOGGED_IN,
    "POST /api/v1/clusters/{name}/doctor": OPERATORS_ONLY,
    "POST /api/v1/drift": OPERATORS_ONLY,
    "POST /api/v1/doctor": OPERATORS_ONLY,
    "GET /api/v1/inventory": OPERATORS_ONLY,
    # Nothing is to be confirmed.
    "POST /api/v1/inventory/confirm": (NOT_LOGGED_IN, REFUSED, REFUSED, REFUSED, 409, REFUSED),
    "GET /api/v1/targets": LOGGED_IN,
    "GET /api/v1/targets/{target}": WHO_SEES,
    "GET /api/v1/apps": LOGGED_IN,
    "GET /api/v1/names": LOGGED_IN,
    "POST /api/v1/sessions": (NOT_LOGGED_IN, GONE, REFUSED, 200, 409, 409),  # the owner has it, so nobody else gets it
    "GET /api/v1/sessions": LOGGED_IN,
    "GET /api/v1/sessions/{id}": WHO_SEES,
    "POST /api/v1/sessions/{id}/extend": (NOT_LOGGED_IN, GONE, REFUSED, 200, 200, REFUSED),
    "POST /api/v1/sessions/{id}/resume": (NOT_LOGGED_IN, GONE, REFUSED, 409, 409, REFUSED),  # no debugger is attached
    "POST /api/v1/sessions/{id}/ask": WHO_SEES,
    # Its owner alone shares it, and with none of them it is shared.
    "POST /api/v1/sessions/{id}/share": (NOT_LOGGED_IN, GONE, REFUSED, 200, REFUSED, REFUSED),
    "POST /api/v1/sessions/{id}/join": (NOT_LOGGED_IN, GONE, REFUSED, REFUSED, REFUSED, REFUSED),
    "POST /api/v1/sessions/{id}/take": (NOT_LOGGED_IN, GONE, REFUSED, REFUSED, REFUSED, REFUSED),
    # Its owner's alone; this is not the WebSocket that it has to be.
    "GET /api/v1/sessions/{id}/line": (NOT_LOGGED_IN, GONE, REFUSED, 400, REFUSED, REFUSED),
    "DELETE /api/v1/sessions/{id}": (NOT_LOGGED_IN, GONE, REFUSED, 200, 200, REFUSED),
    "GET /api/v1/sessions/{id}/ide/{format}": (NOT_LOGGED_IN, GONE, REFUSED, 200, 200, 200),
    "GET /api/v1/sessions.csv": LOGGED_IN,
    "GET /api/v1/sessions.jsonl": LOGGED_IN,
    "GET /api/v1/events": LOGGED_IN,
    "GET /api/v1/releases": LOGGED_IN,
    "POST /api/v1/releases": WHO_READS_LOGS,
    "GET /api/v1/releases/{id}": WHO_SEES,
    "GET /api/v1/releases/{id}/events": WHO_READS_LOGS,
    "GET /api/v1/releases/{id}/log": WHO_READS_LOGS,
    "GET /api/v1/trail": OPERATORS_ONLY,
    "GET /api/v1/trail/verification": OPERATORS_ONLY,
    "GET /livez": EVERYBODY,
    "GET /readyz": EVERYBODY,
    "GET /metrics": OPERATORS_ONLY,
    "GET /openapi.json": LOGGED_IN,
    "GET /": LOGGED_IN,
    "GET /targets": LOGGED_IN,
    "GET /environments/{environment}": WHO_SEES,
    "GET /targets/{target}": WHO_SEES,
    "GET /sessions": LOGGED_IN,
    "GET /sessions/{id}": WHO_SEES,
    "GET /releases": LOGGED_IN,
    "GET /releases/{id}": WHO_SEES,
    "GET /clusters": LOGGED_IN,
    "GET /trail": OPERATORS_ONLY,
    "GET /help": EVERYBODY,
    "GET /static/{name}": EVERYBODY,
    "GET /login": EVERYBODY,
    "POST /login": (415,) * 6,  # about the body, so no right was asked for
    "POST /logout": (303,) * 6,
    "POST /login/allow": (415,) * 6,
    "GET /login/with/{provider}": (404,) * 6,
    "GET /login/back/{provider}": (404,) * 6,
    "GET /api/v1/logins/providers": EVERYBODY,
    "POST /api/v1/logins/devices": (404,) * 6,
    "POST /api/v1/logins": (401,) * 6,
    "DELETE /api/v1/logins/mine": LOGGED_IN,
    "DELETE /api/v1/logins/{name}": OPERATORS_ONLY,
    "POST /api/v1/token": (400,) * 6,  # for portals, which prove themselves in a form
    "GET /api/v1/me": LOGGED_IN,
}
BODIES: Mapping[str, Any] = {
    "POST /api/v1/sessions/{id}/extend": {"for": "2h"},
    "POST /api/v1/sessions/{id}/ask": {},
    "POST /api/v1/sessions/{id}/share": {"with": "somebody"},
    "POST /api/v1/clusters/{name}/doctor": {},
    "POST /api/v1/logins": {"code": "x", "verifier": "x"},
    "POST /api/v1/logins/devices": {"provider": "nowhere"},
}
ENDLESS = frozenset({"GET /api/v1/events"})


async def _all_sessions(call: Call[Nothing, Nothing]) -> Reply[list[str]]:
    return Reply([str(live.session.target) for live in call.request.app[BROKER].live()])


def _leaking(path: str, right: Right) -> Route:
    """A route whose handler shows everything to anybody."""
    more = {"query": Nothing, "body": Nothing, "answer": list[str], "summary": ""}
    return Route(method="GET", path=path, right=right, handler=_all_sessions, **more)  # type: ignore[arg-type]


FORGETFUL, OPEN = _leaking("/forgetful", Right.SEE), _leaking("/open", Right.ANYBODY)
SEES = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
DEBUGS = [
    {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]


@dataclass
class World:
    gateway: Gateway
    kubectl: Kubectl
    people: Mapping[str, Principal]
    release: str
    portal: ECKey

    @property
    def namespace(self) -> str:
        return self.kubectl.namespace

    @property
    def target(self) -> str:
        return f"pod/dev/{self.namespace}/deploy/shop"

    def headers(self, person: str) -> dict[str, str]:
        if person == "operator":
            return self.gateway.api.headers("operator")
        if person == "nobody":
            return {"X-Forwarded-For": "192.0.2.1"}  # otherwise it would be the user of this machine
        if person == "portal":
            return {"Authorization": f"Bearer {self.assertion()}"}
        one = self.people[person]
        named = {"X-Forwarded-User": one.subject, "X-Forwarded-Preferred-Username": one.name}
        # A change is taken from the gateway's own pages only.
        return {**named, "Noah-Proxy-Secret": SECRET, "Sec-Fetch-Site": "same-origin"}

    def assertion(self) -> str:
        """What the portal signs, for the owner."""
        now = int(time.time())
        claims = {"iss": "paas", "sub": self.people["owner"].subject, "aud": "noah", "iat": now, "exp": now + 60}
        return jwt.encode({"alg": "ES256"}, claims, self.portal)

    @asynccontextmanager
    async def ask(
        self, person: str, method: str, path: str, body: Any = None, **more: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self.gateway.http.request(
            method,
            self.gateway.url + path,
            json=body,
            headers={**self.headers(person), **more},
            allow_redirects=False,
        ) as answer:
            yield answer

    async def json(self, person: str, method: str, path: str, body: Any = None) -> Any:
        async with self.ask(person, method, path, body) as answer:
            assert answer.status < 400, await answer.text()
            return await answer.json()

    async def enabled(self, *, wait: int = 0) -> dict[str, Any]:
        """The owner's session."""
        body = {"target": self.target, "allow": ["127.0.0.0/8"]}
        session: dict[str, Any] = await self.json("owner", "POST", f"/api/v1/sessions?wait={wait}", body)
        return session

    def grant(self, name: str, rules: list[dict[str, Any]]) -> None:
        """A RoleBinding, for the person of that name."""
        user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.people[name].subject}
        about = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        self.kubectl.apply(
            {**about, "kind": "Role", "rules": rules},
            {**about, "kind": "RoleBinding", "roleRef": role, "subjects": [user]},
        )


def people() -> Mapping[str, Principal]:
    def person(name: str) -> Principal:
        subject = f"{name}-{uuid.uuid4().hex[:8]}"
        return Principal(kind=PrincipalKind.PROXY, issuer="proxy", subject=subject, name=name)

    return {name: person(name) for name in ("stranger", "colleague", "owner")}


@pytest.fixture(scope="module")
def deployed(kubectl: Kubectl) -> Kubectl:
    kubectl.deploy("shop")
    return kubectl


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(deployed: Kubectl, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    release = Release(
        id=f"r-{deployed.namespace}",
        cluster="dev",
        namespace=deployed.namespace,
        environment=deployed.namespace,
        kind=WorkloadKind.DEPLOYMENT,
        workload="shop",
        revision="1",
        started_at=datetime(2026, 1, 1, 7, tzinfo=UTC),
        ended_at=datetime(2026, 1, 1, 8, tzinfo=UTC),
        progress=Progress(Result.DONE, 1, 1, "1 of 1 online"),
    )
    event = ReleaseEvent("2026-01-01T08:00:00.000000Z", ReleaseEventKind.END, "1 of 1 online")
    who, folder = people(), tmp_path_factory.mktemp("who")
    stranger = who["stranger"].subject
    (folder / "secret").write_text(SECRET)
    key = ECKey.generate_key("P-256")
    (folder / "paas.pub").write_bytes(key.as_pem(private=False))
    access = {
        "proxy": {"secret_file": folder / "secret"},
        "oidc": [{"name": "company", "issuer": "https://login.example.com", "client_id": "noah"}],
        "portals": [{"name": "paas", "public_key_file": folder / "paas.pub", "people_of": "company"}],
    }
    async with serving(
        free_port(),
        folder,
        ClusterSettings(name="dev", kubeconfig=kubeconfig, namespaces=(deployed.namespace,)),
        ClusterSettings(name="as-user", kubeconfig=kubeconfig, namespaces=(deployed.namespace,), exec_as="user"),
        access=access,
        grants=(GrantSettings(rights=("see", "debug"), users=(stranger,), targets=("local/nobody",)),),
        more_routes=(FORGETFUL, OPEN),
    ) as gateway:
        await gateway.store.releases.save(release, [(1, event)])
        world = World(gateway, deployed, who, release.id, key)
        world.grant("colleague", [SEES])
        world.grant("owner", [SEES, *DEBUGS])
        assert await gateway.clusters["dev"].informer.wait_synced(60)
        yield world


def name_of(route: AnyRoute) -> str:
    path = re.sub(r"{(\w+):.*}", r"{\1}", route.path)
    return f"{route.method} {path}"


def path_of(world: World, route: AnyRoute, session: str) -> str:
    values = {
        "environment": world.namespace,
        "id": session if "sessions" in route.path else world.release,
        "name": "noah.css" if route.path.startswith("/static/") else "dev",
        "target": world.target,
        "format": "vscode",
        "provider": "nowhere",
    }
    return re.sub(r"{(\w+)(:.*)?}", lambda match: values[match[1]], route.path)


async def test_the_matrix_has_every_route() -> None:
    assert {name_of(route) for route in (*ROUTES, *PAGES)} == set(EXPECTED)


@pytest.mark.parametrize("route", [*ROUTES, *PAGES], ids=name_of)
async def test_each_route_answers_each_person_by_their_rights(world: World, route: AnyRoute) -> None:
    await _judge(world, route, EXPECTED[name_of(route)])


@pytest.mark.parametrize("expected", [EVERYBODY, LOGGED_IN, WHO_SEES, OPERATORS_ONLY])
async def test_a_route_that_asks_for_no_right_is_not_taken_for_one_that_does(
    world: World, expected: tuple[int, ...]
) -> None:
    for route in (FORGETFUL, OPEN):
        with pytest.raises((AssertionError, aiohttp.ServerDisconnectedError)):  # what would answer unasked is cut off
            await _judge(world, route, expected)


async def _judge(world: World, route: AnyRoute, expected: tuple[int, ...]) -> None:
    name, got = name_of(route), []
    body = BODIES.get(name)
    if name == "POST /api/v1/sessions":
        body = {"target": world.target}
    elif name == "POST /api/v1/releases":
        body = {"cluster": "dev", "namespace": world.namespace, "workload": "shop"}
    for person in PEOPLE:
        session = (await world.enabled(wait=60 if route.path.endswith("/line") else 0))["id"]
        async with world.ask(person, route.method, path_of(world, route, session), body) as answer:
            got.append(answer.status)
            if person in ("nobody", "stranger") and answer.status == 200 and name not in ENDLESS:
                assert world.namespace not in await answer.text()
    if isinstance(route, PageRoute):
        expected = (303, *expected[1:])  # to the page where a browser logs in
    assert dict(zip(PEOPLE, got, strict=True)) == dict(zip(PEOPLE, expected, strict=True))


async def test_what_one_may_not_see_is_answered_like_what_is_not_there(world: World) -> None:
    session = (await world.enabled())["id"]
    pod = str((await world.json("owner", "GET", f"/api/v1/targets/{world.target}"))["target"])
    for path, there, absent in (
        (f"/api/v1/sessions/{session}", session, "s-00000000"),
        (f"/api/v1/targets/{pod}", world.namespace, "no-such-namespace"),
        (f"/api/v1/targets/{pod}", "dev", "no-such-cluster"),
        ("/api/v1/targets/deploy/shop", "shop", "no-such-app"),
        (f"/api/v1/releases/{world.release}", world.release, "r-none"),
        (f"/api/v1/events?target={pod}", world.namespace, "no-such-namespace"),
    ):
        async with world.ask("stranger", "GET", path) as answer:
            assert answer.status == 404
            hidden = (await answer.text()).replace(there, "X")
        async with world.ask("stranger", "GET", path.replace(there, absent)) as answer:
            assert answer.status == 404
            assert (await answer.text()).replace(absent, "X") == hidden


async def test_lists_and_counts_have_what_one_may_see_and_nothing_else(world: World) -> None:
    await world.enabled()
    for path, count_of_owner in (
        ("/api/v1/targets?cluster=dev", 1),
        ("/api/v1/apps?cluster=dev", 1),
        ("/api/v1/sessions", 1),
        ("/api/v1/releases", 1),
    ):
        assert (await world.json("owner", "GET", path))["total"] == count_of_owner, path
        assert (await world.json("colleague", "GET", path))["total"] == count_of_owner, path
        nothing = await world.json("stranger", "GET", path)
        assert (nothing["total"], nothing["items"]) == (0, []), path
    assert [one["name"] for one in (await world.json("colleague", "GET", "/api/v1/clusters"))["items"]] == [
        "dev",
        "as-user",
    ]
    assert (await world.json("stranger", "GET", "/api/v1/clusters"))["items"] == []
    assert [one["target"] for one in (await world.json("stranger", "GET", "/api/v1/targets"))["items"]] == [
        "local/nobody"
    ]


async def test_an_event_reaches_those_alone_who_may_see_what_it_is_about(world: World) -> None:
    session = (await world.enabled())["id"]
    async with (
        world.ask("stranger", "GET", "/api/v1/events") as theirs,
        world.ask("colleague", "GET", "/api/v1/events") as ours,
    ):
        await world.json("owner", "POST", f"/api/v1/sessions/{session}/ask", {"text": "a secret"})
        assert "a secret" in await _until(ours, "a secret")
        await world.json("stranger", "POST", "/api/v1/sessions", {"target": "local/nobody", "allow": ["127.0.0.1"]})
        seen = await _until(theirs, "local/nobody")
    subjects = [json.loads(line)["subject"] for line in re.findall(r"^data: (.*)$", seen, re.MULTILINE)]
    assert subjects
    assert set(subjects) == {"local/nobody"}


async def _until(stream: aiohttp.ClientResponse, words: str) -> str:
    """What has come once a whole event has *words*."""
    seen = ""
    async with asyncio.timeout(30):
        while words not in seen or not seen.endswith("\n\n"):
            seen += (await stream.content.readany()).decode()
    return seen


class Recorder:
    """Passes a browser's connections on to the gateway, and keeps every byte that the gateway sends to it."""

    def __init__(self, gateway: str) -> None:
        self._to = URL(gateway)
        self.url = ""
        self.heard = bytearray()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Recorder"]:
        async with asyncio.TaskGroup() as group:
            server = await asyncio.start_server(partial(self._pass_on, group), "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            try:
                yield self
            finally:
                server.close()

    async def _pass_on(
        self, group: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        answers, asked = await asyncio.open_connection(self._to.host, self._to.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: bytearray | None) -> None:
            with suppress(OSError):
                while piece := await source.read(65536):
                    if kept is not None:
                        kept += piece
                    sink.write(piece)
            sink.close()

        group.create_task(pump(reader, asked, None))
        group.create_task(pump(answers, writer, self.heard))

    async def hears(self, words: str) -> None:
        async with asyncio.timeout(30):
            while words.encode() not in self.heard:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _browsing(chromium: Browser, world: World, person: str) -> AsyncIterator[tuple[Recorder, BrowserContext]]:
    """A browser whose requests a proxy would sign as *person*'s, and what it is sent."""
    async with Recorder(world.gateway.url).open() as recorder:
        named = {key: value for key, value in world.headers(person).items() if key != "Sec-Fetch-Site"}
        context = await chromium.new_context(extra_http_headers=named)
        yield recorder, context
        await context.close()


@pytest.mark.browser
async def test_what_one_may_not_see_never_arrives_in_ones_browser(world: World) -> None:
    session = (await world.enabled(wait=60))["id"]
    pod = str((await world.json("owner", "GET", f"/api/v1/targets/{world.target}"))["target"])
    release, subject, text = world.release, world.people["owner"].subject, "a secret for the owner"
    names = (session, pod.split("/")[3], world.namespace, release, subject, text)
    lists = ("/", "/?q=shop", "/?cluster=dev", "/sessions", "/releases", "/clusters", "/trail")
    ones = (f"/targets/{pod}", f"/sessions/{session}", f"/releases/{release}")
    async with (
        launched() as chromium,
        _browsing(chromium, world, "owner") as (owners, owner),
        _browsing(chromium, world, "stranger") as (strangers, stranger),
    ):
        pages = {}
        for recorder, context in ((owners, owner), (strangers, stranger)):
            for path in (*ones, *lists):
                page = await context.new_page()
                await page.goto(recorder.url + path)
                if recorder is strangers and path in ones:
                    # The answer says what was asked for, and nothing that the stranger did not know.
                    assert all(name in path or name.encode() not in recorder.heard for name in names), path
                    recorder.heard.clear()
                if path != "/":
                    await page.close()
                else:
                    pages[recorder] = page
        for page in pages.values():
            await page.locator("body[data-stream=open]").wait_for(state="attached")
        assert all(name.encode() in owners.heard for name in names[:-1])
        owners.heard.clear()
        await world.json("owner", "POST", f"/api/v1/sessions/{session}/ask", {"text": text})
        await world.json("owner", "POST", f"/api/v1/sessions/{session}/share", {"with": "somebody"})
        await world.json("owner", "POST", f"/api/v1/sessions/{session}/extend", {"for": "2h"})
        await world.json("owner", "DELETE", f"/api/v1/sessions/{session}?wait=60")
        await owners.hears(text)
        await owners.hears('"status":"ended"')
        # The stranger's stream passes on what came after all that.
        theirs = await world.json(
            "stranger", "POST", "/api/v1/sessions", {"target": "local/nobody", "allow": ["127.0.0.1"]}
        )
        await strangers.hears(theirs["id"])
        await pages[strangers].reload()
        await pages[strangers].locator("body[data-stream=open]").wait_for(state="attached")
    assert [name for name in names if name.encode() in strangers.heard] == []


async def test_refusals_are_in_the_trail(world: World) -> None:
    async with world.ask("colleague", "POST", "/api/v1/sessions", {"target": world.target}) as answer:
        assert answer.status == REFUSED
        sentence, request = (await answer.json())["detail"], answer.headers["X-Request-Id"]
    async with asyncio.timeout(30):
        while True:
            found = (await world.json("operator", "GET", "/api/v1/trail?code=denied&who=colleague"))["items"]
            if row := next((one for one in found if one["request"] == request), None):
                break
            await asyncio.sleep(0.1)
    assert (row["sentence"], row["target"]) == (sentence, f"pod/dev/{world.namespace}")
    assert (await world.json("operator", "GET", "/api/v1/trail/verification"))["problems"] == []


async def test_a_colleague_joins_and_takes_over_a_session_that_is_shared_with_them(world: World) -> None:
    session = (await world.enabled())["id"]
    path, colleague = f"/api/v1/sessions/{session}", world.people["colleague"]
    shared = await world.json("owner", "POST", f"{path}/share", {"with": colleague.subject, "to": "take"})
    assert shared["shares"] == {colleague.id: "take"}
    async with world.ask("colleague", "POST", f"{path}/join") as answer:
        assert answer.status == REFUSED  # to be named is not enough: they may not debug there
    world.grant("colleague", [SEES, *DEBUGS])
    async with asyncio.timeout(60):  # what the API server had said is remembered for half a minute
        while True:
            async with world.ask("colleague", "POST", f"{path}/join") as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(1)
    async with world.ask("colleague", "DELETE", path) as answer:
        assert answer.status == REFUSED  # to end it is still its owner's
    taken = await world.json("colleague", "POST", f"{path}/take")
    assert taken["owner_principal"]["id"] == colleague.id
    async with world.ask("owner", "POST", f"{path}/share", {"with": "somebody"}) as answer:
        assert answer.status == REFUSED
    await world.json("colleague", "DELETE", f"{path}?wait=60")
    world.grant("colleague", [SEES])


async def test_the_clusters_audit_log_names_the_person_of_an_exec(world: World, audit_log: AuditLog) -> None:
    since, owner = datetime.now(UTC), world.people["owner"]
    target = f"pod/as-user/{world.namespace}/deploy/shop"
    body = {"target": target, "allow": ["127.0.0.0/8"]}
    session = await world.json("owner", "POST", "/api/v1/sessions?wait=60", body)
    assert session["status"] == "ready", session
    await world.json("owner", "DELETE", f"/api/v1/sessions/{session['id']}?wait=60")
    execs = audit_log.execs(world.namespace, since=since, until=datetime.now(UTC) + timedelta(seconds=1))
    assert execs
    assert {one.as_user for one in execs} == {owner.subject}


async def test_a_binding_that_is_removed_ends_streams_and_the_session_at_a_breakpoint(world: World) -> None:
    session = await world.enabled(wait=60)
    never = {"exec": {"command": ["false"]}}
    create = partial(world.kubectl.create, "never", command=["sleep", "1000"], readinessProbe=never)
    await asyncio.to_thread(create)  # its release lasts for ten minutes
    followed = {"cluster": "dev", "namespace": world.namespace, "workload": "never"}
    release = await world.json("owner", "POST", "/api/v1/releases", followed)
    streams = (f"/api/v1/releases/{release['id']}/events", f"/api/v1/events?target={session['target']}")
    async with jdb(session["host"], session["port"]) as debugger, asyncio.TaskGroup() as group:
        watched = [group.create_task(_watch_to_the_end(world, path)) for path in streams]
        debugger.type("stop in App.compute")
        await debugger.says("breakpoint")
        order = group.create_task(asyncio.to_thread(_work, world.kubectl))
        await debugger.says("Breakpoint hit")
        assert not any(stream.done() for stream in watched)
        await asyncio.to_thread(world.kubectl, "delete", "rolebinding", "owner")
        async with asyncio.timeout(120):  # a minute, and a busy machine
            await asyncio.wait(watched)
            assert all(b'"kind":"end"' not in stream.result() for stream in watched)
            while not (ended := await world.json("operator", "GET", f"/api/v1/sessions/{session['id']}"))["ended_at"]:
                await asyncio.sleep(0.5)
        assert ended["end_reason"] == "right_lost"
        assert "create pods/exec and get pods/exec there" in ended["end_detail"]
        assert await order
    async with world.ask("owner", "POST", "/api/v1/sessions", {"target": world.target}) as answer:
        assert answer.status == GONE


async def _watch_to_the_end(world: World, path: str) -> bytes:
    async with world.ask("owner", "GET", path) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


def _work(kubectl: Kubectl) -> str:
    """What the app answers to a request that runs into the breakpoint, once it runs on."""
    pod = kubectl("get", "pods", "-l", "app=shop", "-o", "name").strip()
    return kubectl("exec", pod, "--", "curl", "-s", "-m", "100", "http://127.0.0.1:8080/work", timeout=120)
