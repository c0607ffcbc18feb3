"""What a portal signs: for whom, for how long, and with what limits."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from noah.access.portals import Portals
from noah.core.session.principal import Principal, PrincipalKind
from noah.core.session.rights import Denied, Grant, Grants, Right, decide
from noah.errors import BadSettings, NoahError
from noah.settings import PortalSettings

ISSUER = "https://login.example.com"
NOW = int(time.time())
CLAIMS = {"iss": "paas", "sub": "ada", "aud": "noah", "iat": NOW, "exp": NOW + 60, "groups": ["team-a"], "name": "Ada"}


@pytest.fixture(scope="module")
def key() -> ECKey:
    return ECKey.generate_key("P-256")


@pytest.fixture
def portals(key: ECKey, tmp_path: Path) -> Portals:
    (tmp_path / "paas.pub").write_bytes(key.as_pem(private=False))
    settings = PortalSettings(
        name="paas", public_key_file=tmp_path / "paas.pub", people_of="company", rights=("debug",)
    )
    return Portals([settings], {"company": ISSUER})


def _signed(key: ECKey | RSAKey, *, alg: str = "ES256", **changes: Any) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return jwt.encode({"alg": alg}, claims, key, algorithms=[alg])


def test_the_person_is_the_providers_and_the_portal_is_named_beside(portals: Portals, key: ECKey) -> None:
    assert "paas" in portals
    ada = portals.principal_of(_signed(key), "paas", NOW)
    assert ada == Principal(kind=PrincipalKind.OIDC, issuer=ISSUER, subject="ada", name="")
    assert (ada.name, sorted(ada.groups), ada.actor and ada.actor.name) == ("Ada", ["team-a"], "paas")
    assert Principal.from_json(ada.to_json()).at_most == ada.at_most == frozenset({"see", "debug"})


def test_what_the_portal_may_not_have_done_the_person_cannot_do_through_it(portals: Portals, key: ECKey) -> None:
    ada = portals.principal_of(_signed(key), "paas", NOW)
    everything = Grants([Grant(frozenset(Right) - {Right.ANYBODY}, users=frozenset({"ada"}))])
    herself = Principal(kind=PrincipalKind.OIDC, issuer=ISSUER, subject="ada", name="Ada")
    for right in (Right.FREE, Right.OPERATE, Right.READ_TRAIL, Right.READ_LOGS):
        verdict = decide(right, "local/shop", ada, everything)
        assert isinstance(verdict, Denied)
        assert "paas may not" in verdict.sentence
        assert not isinstance(decide(right, "local/shop", herself, everything), Denied)
    for right in (Right.SEE, Right.DEBUG):
        assert not isinstance(decide(right, "local/shop", ada, everything), Denied)
        assert isinstance(decide(right, "local/shop", ada, Grants()), Denied)  # no more than the person may


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"aud": "other"}, "for somebody else"),
        ({"aud": ["noah", "other"]}, "for somebody else"),
        ({"aud": None}, "for somebody else"),
        ({"exp": NOW + 3600}, "lasts longer"),
        ({"iat": NOW - 600, "exp": NOW - 400}, "not valid now"),
        ({"iat": NOW + 600, "exp": NOW + 700}, "not valid now"),
        ({"exp": None}, "from when until when"),
        ({"iat": None}, "from when until when"),
        ({"sub": None}, "from when until when"),
        ({"sub": ""}, "no usable name"),
        ({"sub": "system:admin"}, "no name from outside"),
        ({"groups": ["system:masters"]}, "no name from outside"),
        ({"groups": ["noah:operators"]}, "no name from outside"),
        ({"groups": "team-a"}, "not a list"),
    ],
)
def test_an_assertion_that_says_too_much_or_too_little_is_refused(
    portals: Portals, key: ECKey, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(NoahError, match=said):
        portals.principal_of(_signed(key, **changes), "paas", NOW)


def test_what_somebody_else_has_signed_is_refused(portals: Portals, key: ECKey) -> None:
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "HS256"}, CLAIMS)
    )
    by_public_key = hmac.new(key.as_pem(private=False), f"{head}.{body}".encode(), hashlib.sha256).digest()
    forged = base64.urlsafe_b64encode(by_public_key).decode().rstrip("=")
    for assertion in (
        _signed(ECKey.generate_key("P-256")),
        _signed(RSAKey.generate_key(2048), alg="RS256"),
        f"{head}.{body}.{forged}",
        _signed(key)[:-4] + "AAAA",
        "a.b.c",
    ):
        with pytest.raises(NoahError, match="the portal paas has signed"):
            portals.principal_of(assertion, "paas", NOW)


def test_a_key_that_is_not_a_public_one_is_named(key: ECKey, tmp_path: Path) -> None:
    file = tmp_path / "paas.pub"
    settings = PortalSettings(name="paas", public_key_file=file, people_of="company")
    for content, said in (
        (None, "cannot be read"),
        (b"", "no public key"),
        (b"nothing", "no public key"),
        (key.as_pem(private=True), "its private key"),
    ):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(BadSettings, match=said):
            Portals([settings], {"company": ISSUER})
