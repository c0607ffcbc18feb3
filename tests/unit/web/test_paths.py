"""Links lead to the same place whatever path a proxy serves the site under."""

from urllib.parse import urljoin

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from noah.settings import GatewaySettings, Settings
from noah.web.keys import SETTINGS
from noah.web.paths import DEEPEST, link_to, path_inside, root_of

PUBLIC = "https://tools.example.com/noah/"


def _request(path: str, public_url: str | None = None) -> web.Request:
    site = web.Application()
    site[SETTINGS] = Settings(gateway=GatewaySettings(public_url=public_url))
    return make_mocked_request("GET", path, app=site)


@pytest.mark.parametrize(
    "path", ["", "sessions", "sessions/s-1", "targets/pod/dev/team/shop-1/main", "targets/a%2Fb/c"]
)
@pytest.mark.parametrize("leaves_path_in", [False, True])
def test_a_link_leads_from_every_page_to_the_same_place(path: str, leaves_path_in: bool) -> None:
    request = _request(f"/noah/{path}" if leaves_path_in else f"/{path}", PUBLIC)
    assert path_inside(request) == f"/{path}"
    assert urljoin(PUBLIC + path, link_to(request, "/sessions?q=1")) == f"{PUBLIC}sessions?q=1"
    assert urljoin(PUBLIC + path, root_of(request)) == PUBLIC


def test_a_path_that_only_begins_like_the_public_one_is_not_cut() -> None:
    assert path_inside(_request("/noahs/ark", PUBLIC)) == "/noahs/ark"


def test_a_path_that_no_page_has_does_not_make_its_links_as_long() -> None:
    assert root_of(_request("/a" * (DEEPEST + 2))) == "/"
    assert root_of(_request("/a" * (DEEPEST + 2), PUBLIC)) == "/noah/"
