"""Which names a gateway answers to."""

import socket

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from noah.settings import GatewaySettings, Settings
from noah.web.identity import Misdirected, refuse_other_names, refuse_plain_http
from noah.web.keys import SETTINGS


def _request(host: str | None, **settings: object) -> web.Request:
    site = web.Application()
    site[SETTINGS] = Settings(
        gateway=GatewaySettings.model_validate({"advertised_host": "Noah.example.com", **settings})
    )
    return make_mocked_request("GET", "/", headers={} if host is None else {"Host": host}, app=site)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:7070", "127.0.0.1", "10.1.2.3:80", "[::1]:7070", "[::1]", "localhost:7070", "LOCALHOST",
        "localhost.", "noah.localhost:7070", "noah.example.com:7070", socket.gethostname(), "", None,
    ],
)  # fmt: skip
def test_a_gateway_on_loopback_answers_to_addresses_and_its_own_names(host: str | None) -> None:
    refuse_other_names(_request(host))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:7070", "127.0.0.1.evil.example:7070", "localhost.evil.example", "notlocalhost",
        "evil.example:127.0.0.1", "127.0.0.1:x", "[::1", "user@localhost", ":", "127.1", "0x7f.1:7070",
    ],
)  # fmt: skip
def test_a_gateway_on_loopback_refuses_any_other_name_with_what_to_do(host: str) -> None:
    with pytest.raises(Misdirected, match=r"use localhost, or, if .* set public_url"):
        refuse_other_names(_request(host))


def test_a_gateway_that_others_reach_answers_to_any_name() -> None:
    refuse_other_names(_request("noah.debug.svc.cluster.local:7070", listen="0.0.0.0:7070", plain_http_from=["::1"]))


@pytest.mark.parametrize(
    ("listen", "peer", "path", "is_taken"),
    [
        ("127.0.0.1:7070", "127.0.0.1", "/", True),
        ("0.0.0.0:7070", "127.0.0.1", "/", True),
        ("0.0.0.0:7070", "172.17.0.1", "/", True),  # the bridge
        ("0.0.0.0:7070", "::ffff:172.17.0.1", "/", True),
        ("0.0.0.0:7070", "10.0.0.1", "/", True),  # a proxy that does TLS
        ("0.0.0.0:7070", "10.0.0.2", "/livez", True),  # a kubelet
        ("0.0.0.0:7070", "10.0.0.2", "/", False),
        ("0.0.0.0:7070", "10.0.0.2", "/login", False),
        ("0.0.0.0:7070", "10.0.0.2", "/livez/../login", False),
        ("0.0.0.0:7070", "2001:db8::1", "/", False),
        ("0.0.0.0:7070", "", "/", False),
    ],
)
def test_plain_http_that_has_crossed_a_network_is_refused(listen: str, peer: str, path: str, is_taken: bool) -> None:
    networks = {"plain_http_from": ["172.17.0.0/16"], "trusted_proxies": ["10.0.0.1"]}
    request = _request("x", listen=listen, **networks).clone(remote=peer, rel_url=path)
    if is_taken:
        refuse_plain_http(request)
    else:
        with pytest.raises(Misdirected, match="use https"):
            refuse_plain_http(request)
