"""A portal exchanges the tokens of people at a real provider; what it gets for them is good for no more than that."""

import base64
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import ECKey

from noah.access.token_exchange import ACCESS_TOKEN, ASSERTION_TYPE, GRANT_TYPE
from noah.settings import GrantSettings
from tests.integration.web.conftest import Gateway, serving
from tests.oidc.provider import OidcServer, oidc_server

pytestmark = [pytest.mark.jvm, pytest.mark.asyncio(loop_scope="module")]

SECRET = "a secret: with + and % of 32 or more"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"


@dataclass
class Portal:
    provider: OidcServer
    gateway: Gateway
    key: ECKey

    async def ids(self, **changes: Any) -> str:
        """The token that ada has at the provider, for the portal."""
        now = int(time.time())
        claims = {"iss": self.provider.url, "sub": "ada", "aud": "paas-client", "iat": now, "exp": now + 300}
        return await self.provider.token(**{**claims, "preferred_username": "ada", "groups": ["team-a"], **changes})

    def assertion(self, **changes: Any) -> str:
        now = int(time.time())
        claims = {"iss": "paas", "sub": "paas", "aud": f"{self.gateway.url}/api/v1/token", "iat": now, "exp": now + 60}
        return jwt.encode({"alg": "ES256"}, {**claims, **changes}, self.key)

    async def form(self, **changes: str | None) -> dict[str, str]:
        form = {
            "grant_type": GRANT_TYPE,
            "client_id": "paas",
            "client_secret": SECRET,
            "subject_token": await self.ids(),
            "subject_token_type": ID_TOKEN,
            **changes,
        }
        return {name: value for name, value in form.items() if value is not None}

    async def exchanged(
        self, form: Mapping[str, str] | list[tuple[str, str]], **headers: str
    ) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        async with self.gateway.http.post(f"{self.gateway.url}/api/v1/token", data=form, headers=headers) as answer:
            return answer.status, await answer.json(content_type="application/json"), answer.headers

    async def ask(self, token: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.gateway.http.request(method, self.gateway.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def portal(jvm: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Portal]:
    folder: Path = tmp_path_factory.mktemp("portal")
    key = ECKey.generate_key("P-256")
    (folder / "paas.pub").write_bytes(key.as_pem(private=False))
    (folder / "paas.secret").write_text(SECRET + "\n")
    async with oidc_server(["http://127.0.0.1:1/login/back/company"]) as provider:
        access = {
            "oidc": [{"name": "company", "issuer": provider.url, "client_id": "noah"}],
            "portals": [
                {
                    "name": "paas",
                    "people_of": "company",
                    "public_key_file": folder / "paas.pub",
                    "secret_file": folder / "paas.secret",
                    "audiences": ["paas-client"],
                },
                {"name": "by-key", "people_of": "company", "public_key_file": folder / "paas.pub"},
            ],
        }
        rights = GrantSettings(rights=("see", "debug", "free"), users=("ada",))
        async with serving(jvm, folder, access=access, grants=(rights,)) as gateway:
            yield Portal(provider, gateway, key)


async def test_a_portal_debugs_for_a_person_whose_token_it_has_and_the_trail_names_both(portal: Portal) -> None:
    status, answer, headers = await portal.exchanged(await portal.form())
    assert (status, headers["Cache-Control"]) == (200, "no-store"), answer
    assert {name: answer[name] for name in ("issued_token_type", "token_type", "expires_in", "scope")} == {
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "debug see",
    }
    token = answer["access_token"]
    _, me = await portal.ask(token, "GET", "/api/v1/me")
    assert (me["principal"]["subject"], me["groups"], me["actor"]["name"]) == ("ada", ["team-a"], "paas")
    status, session = await portal.ask(token, "POST", "/api/v1/sessions", {"target": "local/shop"})
    assert status == 201, session
    status, _ = await portal.ask(token, "DELETE", f"/api/v1/sessions/{session['id']}?wait=20")
    assert status == 200
    # The person may free and the portal may not; neither operates the gateway.
    bobs = await portal.gateway.api.enable("local/shop", user="bob", wait=20)
    assert (await portal.ask(token, "DELETE", f"/api/v1/sessions/{bobs['id']}"))[0] == 403
    assert (await portal.ask(token, "POST", "/api/v1/drift"))[0] == 403
    await portal.gateway.api.end(bobs)
    rows = await portal.gateway.api.trail("who=ada", has={"login", "session.enabled"})
    assert {(row["code"], row["who"]["name"], (row["who"]["actor"] or {}).get("name")) for row in rows} >= {
        ("login", "ada", "paas"),
        ("session.enabled", "ada", "paas"),
    }


async def test_what_it_gets_is_not_a_login_and_not_a_token_to_exchange(portal: Portal) -> None:
    _, answer, _ = await portal.exchanged(await portal.form())
    token = answer["access_token"]
    form = {"token": token}
    async with portal.gateway.http.post(f"{portal.gateway.url}/login", data=form, allow_redirects=False) as refused:
        assert (refused.status, "Set-Cookie" in refused.headers) == (401, False)
    status, answer, _ = await portal.exchanged(await portal.form(subject_token=token, subject_token_type=ACCESS_TOKEN))
    assert (status, answer["error"]) == (400, "invalid_request")


async def test_a_portal_proves_itself_in_each_way_of_the_standards(portal: Portal) -> None:
    without = await portal.form(client_id=None, client_secret=None)
    encoded = base64.b64encode(f"{quote_plus('paas')}:{quote_plus(SECRET)}".encode()).decode()
    assert (await portal.exchanged(without, Authorization=f"Basic {encoded}"))[0] == 200
    signed = {**without, "client_assertion_type": ASSERTION_TYPE, "client_assertion": portal.assertion()}
    assert (await portal.exchanged(signed))[0] == 200
    assert (await portal.exchanged({**signed, "client_id": "paas"}))[0] == 200
    by_key = portal.assertion(iss="by-key", sub="by-key")
    form = {**signed, "client_assertion": by_key, "subject_token": await portal.ids(aud="noah")}
    assert (await portal.exchanged(form))[0] == 200


async def test_a_scope_narrows_what_the_token_is_good_for(portal: Portal) -> None:
    _, answer, _ = await portal.exchanged(await portal.form(scope="see", audience="noah", resource=portal.gateway.url))
    assert answer["scope"] == "see"
    token = answer["access_token"]
    assert (await portal.ask(token, "GET", "/api/v1/targets/local/shop"))[0] == 200
    assert (await portal.ask(token, "POST", "/api/v1/sessions", {"target": "local/shop"}))[0] == 403


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"grant_type": None}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_secret": None}, 401, "invalid_client"),
        ({"client_secret": SECRET[:-1]}, 401, "invalid_client"),
        ({"client_secret": "\0"}, 401, "invalid_client"),
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"client_id": "by-key", "client_secret": "\0"}, 401, "invalid_client"),  # which has no secret
        ({"client_id": None, "client_secret": None}, 401, "invalid_client"),
        ({"client_assertion": "a.b.c"}, 400, "invalid_request"),  # and a secret
        ({"subject_token": None}, 400, "invalid_request"),
        ({"subject_token": "a.b.c"}, 400, "invalid_request"),
        ({"subject_token_type": None}, 400, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, 400, "invalid_request"),
        ({"requested_token_type": ID_TOKEN}, 400, "invalid_request"),
        ({"actor_token": "x", "actor_token_type": ID_TOKEN}, 400, "invalid_request"),
        ({"audience": "another"}, 400, "invalid_target"),
        ({"resource": "https://another.example"}, 400, "invalid_target"),
        ({"scope": "see free"}, 400, "invalid_scope"),
        ({"scope": "see operate"}, 400, "invalid_scope"),
    ],
)
async def test_what_is_refused_is_an_error_of_the_standards(
    portal: Portal, changes: dict[str, str | None], status: int, error: str
) -> None:
    got, answer, headers = await portal.exchanged(await portal.form(**changes))
    assert (got, answer["error"]) == (status, error), answer
    assert answer["error_description"].isascii()
    assert ("WWW-Authenticate" in headers) == (status == 401)
    assert SECRET not in str(answer)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "noah"},  # the gateway's own, which this portal may use; see below for others
        {"aud": "another-client"},
        {"exp": 1},
        {"iss": "https://another.example"},
        {"sub": "system:admin"},
        {"groups": ["noah:operators"]},
        {"header": {"typ": "logout+jwt"}},
    ],
    ids=str,
)
async def test_a_persons_token_that_is_not_for_the_portal_is_not_exchanged(
    portal: Portal, changes: dict[str, Any]
) -> None:
    token = await portal.ids(**changes)
    status, answer, _ = await portal.exchanged(await portal.form(subject_token=token))
    assert status == (200 if changes == {"aud": "noah"} else 400), answer
    # A token for the portal is good for nothing at the gateway itself.
    assert (await portal.ask(await portal.ids(), "GET", "/api/v1/me"))[0] == 401


async def test_what_a_portal_signs_for_a_person_is_not_its_own_credential(portal: Portal) -> None:
    """Somebody whose name is the portal's gets such assertions in their browser."""
    without = await portal.form(client_id=None, client_secret=None)
    for changes in (
        {"aud": "noah"},
        {"sub": "ada"},
        {"aud": "https://another.example/api/v1/token"},
        {"exp": int(time.time()) + 3600},
        {"iss": "nobody", "sub": "nobody"},
    ):
        signed = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": portal.assertion(**changes)}
        status, answer, _ = await portal.exchanged({**without, **signed})
        assert (status, answer["error"]) == (401, "invalid_client"), changes
    other = jwt.encode({"alg": "ES256"}, {"iss": "paas", "sub": "paas"}, ECKey.generate_key("P-256"))
    signed = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": other}
    assert (await portal.exchanged({**without, **signed}))[0] == 401
    signed = {"client_assertion_type": "x", "client_assertion": portal.assertion()}
    assert (await portal.exchanged({**without, **signed}))[0] == 400


async def test_a_malformed_request_is_one_error_and_no_traceback(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    form = await portal.form()
    for sent in ([*form.items(), ("scope", "see"), ("scope", "debug")], {f"f{n}": "x" for n in range(100)}):
        status, answer, _ = await portal.exchanged(sent)
        assert (status, answer["error"]) == (400, "invalid_request")
    for authorization in ("Basic !", "Basic", "Bearer x", "Basic " + base64.b64encode(b"\xff\xfe").decode(), ""):
        status, answer, _ = await portal.exchanged(form, Authorization=authorization)
        assert (status, answer["error"]) == (401, "invalid_client"), authorization
    url = f"{portal.gateway.url}/api/v1/token"
    multipart = aiohttp.FormData(form)
    multipart.add_field("file", b"x", filename="x")
    kinds: tuple[dict[str, Any], ...] = ({"json": form}, {"data": b"\xff=\xff"}, {"data": multipart})
    for kind in kinds:
        async with portal.gateway.http.post(url, **kind) as refused:
            assert (refused.status, (await refused.json())["error"]) == (400, "invalid_request")
    assert "Traceback" not in caplog.text


async def test_a_page_of_another_site_exchanges_nothing(portal: Portal) -> None:
    for other in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        url = f"{portal.gateway.url}/api/v1/token"
        async with portal.gateway.http.post(url, data=await portal.form(), headers=other) as answer:
            assert answer.status == 403
