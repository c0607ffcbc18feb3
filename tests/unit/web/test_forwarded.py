"""Whose address a request is taken to come from, behind proxies that are trusted and others."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from noah.errors import BadInput, BadSettings
from noah.settings import GatewaySettings, Settings, parse_settings
from noah.web.forwarded import asked_host, client_address
from noah.web.keys import SETTINGS

Headers = list[tuple[str, str]]
TRUSTED = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"]


def _request(peer: str, headers: Headers) -> web.Request:
    site = web.Application()
    site[SETTINGS] = Settings(gateway=GatewaySettings.model_validate({"trusted_proxies": TRUSTED}))
    request = make_mocked_request("GET", "/", headers=CIMultiDict(headers), app=site)
    return request.clone(remote=peer)


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("::ffff:192.0.2.7", [], "192.0.2.7"),
        ("127.0.0.1", [], "127.0.0.1"),  # somebody on the gateway's machine, or a proxy that says nothing
        ("127.0.0.1", [("X-Forwarded-For", "192.0.2.7")], "192.0.2.7"),
        ("10.1.1.1", [("X-Forwarded-For", "192.0.2.7, 10.2.2.2")], "192.0.2.7"),
        # What the client wrote itself stands left of what the proxies append.
        ("10.1.1.1", [("X-Forwarded-For", "198.51.100.1, 192.0.2.7, 10.2.2.2")], "192.0.2.7"),
        ("10.1.1.1", [("X-Forwarded-For", "nonsense, 192.0.2.7")], "192.0.2.7"),
        ("10.1.1.1", [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "192.0.2.7")], "192.0.2.7"),
        ("10.1.1.1", [("X-Forwarded-For", "192.0.2.7:51514")], "192.0.2.7"),
        ("10.1.1.1", [("X-Forwarded-For", "10.3.3.3, 10.2.2.2")], "10.3.3.3"),  # a client in the proxies' network
        ("fd00::1", [("X-Forwarded-For", "2001:db8::7")], "2001:db8::7"),
        ("10.1.1.1", [("Forwarded", "for=192.0.2.7;proto=https;by=203.0.113.43")], "192.0.2.7"),
        ("10.1.1.1", [("Forwarded", 'For="[2001:db8::7]:4711"')], "2001:db8::7"),
        ("10.1.1.1", [("Forwarded", 'for=unknown, for="192.0.2.7:80", for=10.2.2.2')], "192.0.2.7"),
        ("10.1.1.1", [("Forwarded", "for=192.0.2.7"), ("X-Forwarded-For", "192.0.2.7")], "192.0.2.7"),
    ],
)
def test_the_first_address_from_the_right_that_is_not_trusted_asks(peer: str, headers: Headers, client: str) -> None:
    assert client_address(_request(peer, headers)) == client


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Forwarded-For", "")],
        [("X-Forwarded-For", "unknown")],
        [("X-Forwarded-For", "192.0.2.7, somewhere")],
        [("X-Forwarded-For", "192.0.2.7,")],
        [("X-Forwarded-For", "192.0.2.7.1")],
        [("X-Forwarded-For", "[2001:db8::7")],
        [("Forwarded", "for=unknown")],
        [("Forwarded", "for=_hidden")],
        [("Forwarded", "proto=https")],
        [("Forwarded", 'for="192.0.2.7')],
        [("Forwarded", "for=192.0.2.7 for=192.0.2.8")],
        # nginx passes on a Forwarded header of the client's making.
        [("Forwarded", "for=198.51.100.1"), ("X-Forwarded-For", "192.0.2.7")],
    ],
)
def test_what_a_trusted_proxy_says_unclearly_is_refused_with_what_to_do(headers: Headers) -> None:
    with pytest.raises(BadInput, match=r"does not say clearly where you are, in .*pass `allow`"):
        client_address(_request("10.1.1.1", headers))


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For"])
def test_a_proxy_that_is_not_trusted_is_not_believed_and_the_setting_is_named(name: str) -> None:
    value = "for=10.9.9.9" if name == "Forwarded" else "10.9.9.9"
    with pytest.raises(BadInput, match=r"a proxy at 192\.0\.2\.7, .* trusted_proxies"):
        client_address(_request("192.0.2.7", [(name, value)]))


@pytest.mark.parametrize(
    ("peer", "headers", "host"),
    [
        ("10.1.1.1", [("Host", "127.0.0.1:7070")], "127.0.0.1:7070"),
        ("10.1.1.1", [("Host", "127.0.0.1:7070"), ("X-Forwarded-Host", "noah.example.test")], "noah.example.test"),
        ("10.1.1.1", [("Host", "a"), ("X-Forwarded-Host", "evil.example, noah.example.test")], "noah.example.test"),
        ("10.1.1.1", [("Host", "a"), ("Forwarded", 'for=192.0.2.7;host="noah.test:8443"')], "noah.test:8443"),
        ("192.0.2.7", [("Host", "a"), ("X-Forwarded-Host", "noah.example.test")], "a"),
    ],
)
def test_the_host_that_was_asked_for_is_a_trusted_proxys_word_or_the_header(
    peer: str, headers: Headers, host: str
) -> None:
    assert asked_host(_request(peer, headers)) == host


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0")))
def test_whatever_a_header_holds_gives_an_address_or_a_sentence(value: str) -> None:
    for name in ("Forwarded", "X-Forwarded-For"):
        said = ""
        try:
            said = client_address(_request("10.1.1.1", [(name, value)]))
        except BadInput as e:
            said = e.sentence
        assert said


@pytest.mark.parametrize(
    "gateway",
    [
        {"public_url": "tools.example.com"},
        {"public_url": "ftp://tools.example.com/"},
        {"public_url": "https:///noah/"},
        {"public_url": "https://tools.example.com/noah/?a=b"},
        {"public_url": "https://tools.example.com/a//b"},
        {"public_url": "https://tools.example.com:x/"},
        {"trusted_proxies": ["10.0.0.0/40"]},
        {"trusted_proxies": ["proxy.example.com"]},
    ],
)
def test_a_setting_that_is_not_an_address_is_refused_with_an_example(gateway: dict[str, object]) -> None:
    with pytest.raises(BadSettings, match=r"for example https://|like 10\.0\.0\.0/8"):
        parse_settings({"gateway": gateway}, origin="noah.toml")
