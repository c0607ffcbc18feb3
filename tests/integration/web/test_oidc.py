"""Logging in at a real OpenID Connect provider: pages, the command line, signed tokens, and what changes later."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import pytest_asyncio
from joserfc.jwk import RSAKey

from noah.settings import GrantSettings
from tests.acceptance.cli.command import noah, ran, start
from tests.integration.web.conftest import Gateway, serving
from tests.oidc.provider import SECRET, OidcServer, Person, oidc_server
from tests.ports import free_port

pytestmark = [pytest.mark.jvm, pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Company:
    provider: OidcServer
    gateway: Gateway
    url: str

    async def logged_in(self, person: Person, page: str = "/") -> str:
        """Log a browser in by the page; return the page that it came to."""
        at, text = await person.get(f"{self.url}{page}")
        assert at.path == "/login", at
        [link] = re.findall(r'href="([^"]*login/with/company[^"]*)"', text)
        at, text = await person.log_in(urljoin(str(at), unescape(link)), until=self.url)
        assert str(at) == f"{self.url}{page}", text[:2000]
        return text

    async def me(self, person: Person) -> dict[str, Any] | None:
        async with person.http.get(f"{self.url}/api/v1/me") as answer:
            return await answer.json() if answer.status == 200 else None

    async def until(self, person: Person, groups: list[str] | None) -> None:
        """Wait until the gateway takes the person for a member of these groups; None: for nobody."""
        async with asyncio.timeout(30):
            while ((me := await self.me(person)) and me["groups"]) != groups:
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def company(jvm: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Company]:
    folder, port = tmp_path_factory.mktemp("company"), free_port()
    url = f"http://127.0.0.1:{port}"
    (folder / "secret").write_text(SECRET + "\n")
    async with oidc_server([f"{url}/login/back/company"]) as provider:
        known = {
            "name": "company",
            "issuer": provider.url,
            "client_id": "noah",
            "client_secret_file": folder / "secret",
            "audiences": ["ci"],
            "authorization_parameters": {"prompt": "consent", "ui_locales": "en", "client_id": "other"},
            "recheck_every": "1s",
        }
        sees = GrantSettings(rights=("see",), users=("ada",))
        async with serving(jvm, folder, access={"oidc": [known]}, port=port, grants=(sees,)) as gateway:
            await provider.person("ada", "team-a", "team-b", name="Ada Lovelace")
            yield Company(provider, gateway, url)


def _claims(company: Company, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {"iss": company.provider.url, "sub": "ada", "aud": "noah", "iat": now, "exp": now + 300}
    return {**claims, "preferred_username": "ada", "groups": ["team-a"], **changes}


async def _asked_with(company: Company, token: str) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"}
    async with company.gateway.http.get(f"{company.url}/api/v1/me", headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_page_leads_to_the_provider_and_back_to_itself(company: Company) -> None:
    async with Person("ada") as ada:
        text = await company.logged_in(ada, "/sessions?owner=ada")
        assert "You are <b>ada</b>" in text
        me = await company.me(ada)
        assert me is not None
        assert me["principal"] == {
            "id": json.dumps(["oidc", company.provider.url, "ada"], separators=(",", ":")),
            "kind": "oidc",
            "issuer": company.provider.url,
            "subject": "ada",
            "name": "ada",
        }
        assert (me["groups"], me["proof"]) == (["team-a", "team-b"], "a login at company")


@pytest.mark.parametrize("alg", ["RS256", "encrypted"])
async def test_userinfo_that_is_signed_is_checked_and_one_that_is_encrypted_is_refused(
    jvm: int, tmp_path: Path, alg: str
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    registered: dict[str, Any] = {"userinfo_signed_response_alg": "RS256"}
    if alg == "encrypted":
        key = RSAKey.generate_key(2048, {"kid": "of-noah", "use": "enc"}).as_dict(private=False)
        registered |= {"userinfo_encrypted_response_alg": "RSA-OAEP", "jwks": {"keys": [key]}}
    (tmp_path / "secret").write_text(SECRET)
    async with oidc_server([f"{url}/login/back/company"], registered=registered) as provider:
        known = {"name": "company", "issuer": provider.url, "client_id": "noah"}
        known["client_secret_file"] = str(tmp_path / "secret")
        async with serving(jvm, tmp_path, access={"oidc": [known]}, port=port) as gateway, Person("ada") as ada:
            company = Company(provider, gateway, url)
            await provider.person("ada", "team-a", name="Ada Lovelace")
            if alg == "encrypted":
                with pytest.raises(AssertionError, match="encrypts its userinfo"):
                    await company.logged_in(ada)
            else:
                await company.logged_in(ada)
                assert (await company.me(ada) or {})["groups"] == ["team-a"]


async def test_only_the_browser_that_began_a_login_ends_it(company: Company) -> None:
    async with Person("ada") as ada, Person("eve") as eve:
        begun = f"{company.url}/login/with/company?next=/"
        async with ada.http.get(begun, allow_redirects=False) as answer:
            address = answer.headers["Location"]
        assert "ui_locales=en" in address
        assert "client_id=noah&" in address  # which no setting replaces
        back: list[str] = []
        at, text = await ada.get(address)
        while not back:  # up to the provider's last redirect, which ada's browser does not follow
            form = re.search(r'action="([^"]*)"', text)
            assert form is not None
            data = {"prompt": "login" if 'name="login"' in text else "consent", "login": "ada", "password": "x"}
            url = urljoin(str(at), unescape(form[1]))
            for _ in range(4):
                async with ada.http.request(
                    "POST" if data else "GET", url, data=data or None, allow_redirects=False
                ) as answer:
                    text, at, data = await answer.text(), answer.url, {}
                    url = urljoin(url, answer.headers.get("Location", ""))
                    if url.startswith(company.url):
                        back.append(url)
                        break
                    if answer.status == 200:
                        break
        at, text = await eve.get(back[0])
        assert "has not begun this login" in text
        assert await company.me(eve) is None
        at, text = await ada.get(back[0].replace("iss=", "iss=http%3A%2F%2Fevil.example%2F&was="))
        assert "is not of the provider company" in text
        at, _ = await ada.get(back[0])
        assert (at.path, (await company.me(ada) or {})["principal"]["name"]) == ("/", "ada")
        await ada.get(back[0])
        assert await company.me(eve) is None


async def test_what_the_provider_refuses_is_said_on_the_page(company: Company) -> None:
    async with Person("ada") as ada:
        async with ada.http.get(f"{company.url}/login/with/company", allow_redirects=False) as answer:
            [state] = re.findall(r"[?&]state=([^&]+)", answer.headers["Location"])
        _, text = await ada.get(
            f"{company.url}/login/back/company?state={state}&error=access_denied&error_description=%3Cb%3Eno&x=1"
        )
        assert "did not log you in: &lt;b&gt;no." in text


async def test_groups_follow_the_provider_and_a_revoked_login_ends(company: Company) -> None:
    async with Person("grace") as grace:
        await company.provider.person("grace", "team-a")
        await company.logged_in(grace)
        await company.until(grace, ["team-a"])
        await company.provider.person("grace", "team-c")
        await company.until(grace, ["team-c"])
        # Several tabs ask at once: one of them renews, and the refresh token is not taken for a stolen one.
        await asyncio.sleep(1.1)
        assert all(await asyncio.gather(*(company.me(grace) for _ in range(10))))
        await company.provider.control("revoke", sub="grace")
        await company.until(grace, None)


async def test_a_login_that_gets_a_system_group_is_over(company: Company) -> None:
    async with Person("mallory") as mallory:
        await company.provider.person("mallory", "team-a")
        await company.logged_in(mallory)
        await company.provider.person("mallory", "system:masters")
        await company.until(mallory, None)


async def test_a_logout_ends_the_login_at_the_provider_too(company: Company) -> None:
    async with Person("linus") as linus:
        await company.provider.person("linus", "team-a")
        await company.logged_in(linus)
        assert await company.provider.control("count", sub="linus") == 1
        headers = {"Sec-Fetch-Site": "same-origin"}
        async with linus.http.post(f"{company.url}/logout", headers=headers, allow_redirects=False) as answer:
            text = unescape(await answer.text())
            assert f'content="0; url={company.provider.url}/session/end?id_token_hint=' in text
        assert await company.provider.control("count", sub="linus") == 0
        assert await company.me(linus) is None


async def test_a_signed_token_of_the_provider_is_believed(company: Company) -> None:
    for audience in ("noah", "ci", ["other", "ci"]):
        status, me = await _asked_with(company, await company.provider.token(**_claims(company, aud=audience)))
        assert (status, me["groups"]) == (200, ["team-a"]), me
    access = await company.provider.token({"typ": "at+jwt"}, **_claims(company, aud="ci"))
    assert (await _asked_with(company, access))[0] == 200


@pytest.mark.parametrize(
    ("changes", "header", "said"),
    [
        ({"aud": "other"}, {}, "for somebody else"),
        ({"aud": []}, {}, "for somebody else"),
        ({"aud": None}, {}, "for somebody else"),
        ({"exp": 1}, {}, "has expired"),
        ({"exp": None}, {}, "from when until when"),
        ({"exp": "9999999999"}, {}, "from when until when"),
        ({"iat": 9999999999, "exp": 99999999999}, {}, "not valid yet"),
        ({"nbf": 9999999999, "exp": 99999999999}, {}, "not valid yet"),
        ({"iss": "https://evil.example"}, {}, "is not known here"),
        ({"sub": None}, {}, "names nobody"),
        ({"sub": "system:admin"}, {}, "no name from outside"),
        ({"groups": ["system:masters"]}, {}, "no name from outside"),
        ({"groups": ["noah:operators"]}, {}, "no name from outside"),
        ({"groups": ["a\nb"]}, {}, "whose name cannot be used"),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, {}, "not one of a login"),
        ({}, {"typ": "logout+jwt"}, "not one of a login"),
        ({}, {"typ": "at+jwt"}, "access token is for somebody else"),
        ({}, {"kid": "nobody's"}, "not a token that the provider"),
    ],
)
async def test_a_token_that_is_not_quite_right_is_refused(
    company: Company, changes: dict[str, Any], header: dict[str, Any], said: str
) -> None:
    claims = {name: value for name, value in _claims(company, **changes).items() if value is not None}
    status, problem = await _asked_with(company, await company.provider.token(header, **claims))
    assert status in (401, 403)
    assert said in problem["detail"]


async def test_a_token_that_the_provider_has_not_signed_is_refused(company: Company) -> None:
    def part(value: Any) -> str:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(text).decode().rstrip("=")

    good = await company.provider.token(**_claims(company))
    head, body, signature = good.split(".")
    async with company.gateway.http.get(f"{company.provider.url}/jwks") as answer:
        public = await answer.text()
    forged = part({**_claims(company), "sub": "root"})
    shared = part({"alg": "HS256", "kid": "key-1"})
    by_public_key = hmac.new(public.encode(), f"{shared}.{forged}".encode(), hashlib.sha256).digest()
    own_key = part({"alg": "RS256", "jwk": json.loads(public)["keys"][0]})
    for token in (
        f"{head}.{forged}.{signature}",
        f"{part({'alg': 'none'})}.{forged}.",
        f"{part({'alg': 'None'})}.{forged}.{signature}",
        f"{shared}.{forged}.{part(by_public_key)}",
        f"{own_key}.{forged}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature}A",
        f"{head}..{signature}",
        "a.b.c",
        "..",
        f"{part([])}.{part([])}.x",
        f"{head}.{part(dict(_claims(company)))}.{'A' * 7000}",
    ):
        status, problem = await _asked_with(company, token)
        assert status == 401, (token, problem)


async def test_keys_may_rotate(company: Company) -> None:
    before = await company.provider.token(**_claims(company))
    assert (await _asked_with(company, before))[0] == 200
    await company.provider.control("rotate")
    after = await company.provider.token(**_claims(company))
    async with asyncio.timeout(30):
        while (await _asked_with(company, after))[0] != 200:
            await asyncio.sleep(0.1)
    assert (await _asked_with(company, before))[0] == 401
    async with Person("ada") as ada:
        await company.logged_in(ada)


async def test_the_command_line_logs_in_through_the_browser(company: Company, tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    process = await start(company.url, "login", "--no-browser", env=env)
    assert process.stderr is not None
    assert b"Open this in a browser" in await process.stderr.readline()
    address = (await process.stderr.readline()).decode().strip()
    async with Person("ada") as ada:
        at, text = await ada.log_in(address, until=f"{company.url}/login/back")
        assert "wants to act as <b>ada</b>" in text
        _, text = await ada.submit(at, text)
        assert "You are logged in on the command line" in text
        assert await company.me(ada) is None  # the browser itself is not
    said = await ran(process)
    assert (said.code, said.out.startswith(f"You are ada at {company.url}.")) == (0, True), said
    kept = tmp_path / "noah" / "credentials.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (await noah(company.url, "targets", "-o", "name", env=env)).out.splitlines() == [
        "local/nobody",
        "local/shop",
    ]
    other = await noah(company.url, "targets")
    assert (other.code, "noah login" in other.err) == (8, True)
    assert (await noah(company.url, "logout", env=env)).code == 0
    assert (await noah(company.url, "targets", env=env)).code == 8


async def test_what_the_browser_brings_is_of_use_to_its_own_command_line_only(company: Company) -> None:
    wanted = {"cli_port": "1024", "cli_challenge": "A" * 43, "cli_state": "B" * 20}
    query = "&".join(f"{name}={value}" for name, value in wanted.items())
    async with Person("ada") as ada:
        _, text = await ada.log_in(f"{company.url}/login/with/company?{query}", until=f"{company.url}/login/back")
        [handle] = re.findall(r'name="handle" value="([^"]+)"', text)
        form = {"handle": handle}
        async with ada.http.post(f"{company.url}/login/allow", data=form, allow_redirects=False) as answer:
            back = answer.headers["Location"]
        assert back.startswith("http://127.0.0.1:1024/?code=")
        [code] = re.findall(r"code=([^&]+)", back)
        for body in ({"code": code, "verifier": "C" * 43}, {"code": code, "verifier": "A" * 43}, {"code": code}, {}):
            async with ada.http.post(f"{company.url}/api/v1/logins", json=body) as answer:
                assert answer.status in (400, 401)
        async with ada.http.post(f"{company.url}/login/allow", data=form, allow_redirects=False) as answer:
            assert answer.status == 400  # once


async def test_the_command_line_logs_in_by_another_device(company: Company, tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    process = await start(company.url, "login", "--device", env=env)
    assert process.stdout is not None
    assert b"enter the code" in await process.stdout.readline()
    address = (await process.stdout.readline()).decode().split()[-1]
    async with Person("ada") as ada:
        at, text = await ada.get(address)
        for _ in range(6):
            if "Continue on your device" in text or "Sign-in Success" in text:
                break
            at, text = await ada.submit(at, text)
    said = await ran(process)
    assert (said.code, "You are ada" in said.out) == (0, True), (said, text[:1500])
    assert (await noah(company.url, "sessions", "--mine", env=env)).code == 0


async def test_a_provider_that_is_away_ends_no_login(jvm: int, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "secret").write_text(SECRET)
    known: dict[str, Any] = {"name": "company", "client_id": "noah", "client_secret_file": tmp_path / "secret"}
    async with oidc_server([f"{url}/login/back/company"]) as provider:
        known |= {"issuer": provider.url, "recheck_every": "1s"}
        away = {"name": "away", "issuer": f"http://127.0.0.1:{free_port()}", "client_id": "noah"}
        await provider.person("ada", "team-a")
        async with serving(jvm, tmp_path, access={"oidc": [known, away]}, port=port) as gateway, Person("ada") as ada:
            company = Company(provider, gateway, url)
            await company.logged_in(ada)
            await provider.stop()
            await asyncio.sleep(1.1)
            await company.until(ada, ["team-a"])
            async with gateway.http.get(f"{url}/login/with/away") as answer:
                assert (answer.status, "away does not answer" in await answer.text()) == (503, True)
