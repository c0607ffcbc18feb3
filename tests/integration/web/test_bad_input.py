"""Whatever is sent, the answer is one sentence that says what is wrong, and nothing has begun."""

import asyncio
import gzip
import io
import json
from typing import Any

import pytest
from yarl import URL

from tests.gateway import Refused
from tests.integration.web.conftest import Gateway

pytestmark = pytest.mark.jvm


@pytest.fixture(autouse=True)
async def nothing_begins(gateway: Gateway) -> Any:
    yield
    assert gateway.broker.live() == []


async def _refused(gateway: Gateway, method: str, path: str, **request: Any) -> dict[str, Any]:
    headers = request.get("headers", {})
    # A page of another site cannot send a token.
    request["headers"] = headers if {"Origin", "Sec-Fetch-Site"} & set(headers) else gateway.api.headers() | headers
    async with gateway.http.request(method, gateway.url + path, **request) as answer:
        assert answer.content_type == "application/problem+json", await answer.text()
        problem: dict[str, Any] = await answer.json(content_type=None)
    assert problem["status"] == answer.status
    assert problem["detail"].endswith(".")
    assert "\n" not in problem["detail"]
    assert len(problem["detail"]) < 600
    return problem


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "target is missing"),
        ([], "not a JSON object"),
        ("local/shop", "not a JSON object"),
        ([None], "not a JSON object"),
        ({"target": 5}, "target: input should be a valid string"),
        ({"target": "local/shop", "fro": "2h"}, "Unknown parameter 'fro'; this call takes target, for, allow"),
        ({"target": "local/shop", "length": "2h"}, "Unknown parameter 'length'"),
        ({"target": "local/shop", "for": "soon"}, "for: 'soon' is not a length of time"),
        ({"target": "local/shop", "for": "0s"}, "for: '0s' is not a length of time"),
        ({"target": "local/shop", "for": 0}, "for: 0 is not a number of seconds"),
        ({"target": "local/shop", "for": -60}, "for: -60 is not a number of seconds"),
        ({"target": "local/shop", "for": "-2h"}, "for: '-2h' is not a length of time"),
        ({"target": "local/shop", "for": 10**30}, "for: this is not a number of seconds"),
        ({"target": "local/shop", "for": 1.5}, "for: write a length of time"),
        ({"target": "local/shop", "for": True}, "for: write a length of time"),
        ({"target": "local/shop", "for": "13h"}, "A session lasts at most 12h"),
        ({"target": "local/shop", "pause_budget": "0"}, "pause_budget: '0' is not a length of time"),
        ({"target": "local/shop", "allow": ["everybody"]}, "allow: 'everybody' is neither an address nor a network"),
        ({"target": "local/shop", "allow": ["10.0.0.0/99"]}, "allow: '10.0.0.0/99' is neither"),
        ({"target": "local/shop", "allow": "10.0.0.1"}, "allow: input should be a valid array"),
        ({"target": "local/shop", "allow": ["::1"] * 65}, "allow: list should have at most 64 items"),
        ({"target": "local/shop", "allow_exit": "yes"}, "allow_exit: input should be a valid boolean"),
        ({"target": ""}, "'' is not a target: write pod/CLUSTER"),
        ({"target": "local/../../etc/passwd"}, "is not a target"),
        ({"target": "local/.."}, "'..' is not a name"),
        ({"target": "local/$(reboot)"}, "'$(reboot)' is not a name"),
        ({"target": "pod/dev/ns/a;reboot"}, "'a;reboot' is not a name"),
        ({"target": "pod/dev/ns/a\nb"}, "is not a name"),
        ({"target": "pod/dev/ns/a\0b"}, "is not a name"),
        ({"target": "pod/dev/ns/" + "a" * 10_000}, "at most 800 characters, this one has 10011"),
    ],
    ids=str,
)
async def test_a_wrong_body_is_explained(gateway: Gateway, body: Any, said: str) -> None:
    problem = await _refused(gateway, "POST", "/api/v1/sessions", json=body)
    assert problem["status"] == 400
    assert said in problem["detail"]


@pytest.mark.parametrize(
    ("target", "status", "said"),
    [
        ("local/shopp", 404, "has no [[local]] named 'shopp'; it has shop, nobody"),
        ("host/h1/shop", 404, "configuration has no host/h1/shop"),
        ("pod/nowhere/ns/shop", 404, "knows no cluster 'nowhere'; it knows away"),
        ("pod/away/ns/shop", 503, ""),
        ("app=shop", 404, "no pod of app shop"),
    ],
)
async def test_a_target_that_is_not_there_is_said(gateway: Gateway, target: str, status: int, said: str) -> None:
    problem = await _refused(gateway, "POST", "/api/v1/sessions", json={"target": target})
    assert problem["status"] == status
    assert said in problem["detail"]
    if "=" not in target:
        problem = await _refused(gateway, "GET", f"/api/v1/targets/{target.replace('/', '%2F')}")
        assert (problem["status"], said in problem["detail"]) == (status, True)


async def test_a_body_that_is_no_json_is_refused_by_its_kind(gateway: Gateway) -> None:
    url = "/api/v1/sessions"
    typed = {"Content-Type": "application/json"}
    for data in (b'{"target": "local/shop"', b"\xff\xfe", b"[" * 30_000, b'{"target": "\\ud800"}'):
        assert (await _refused(gateway, "POST", url, data=data, headers=typed))["status"] == 400
    assert (await _refused(gateway, "POST", url, headers=typed))["detail"].startswith("The body is missing")
    assert (await _refused(gateway, "POST", url, data={"target": "local/shop"}))["status"] == 415


async def test_a_large_body_is_not_read(gateway: Gateway) -> None:
    typed = {"Content-Type": "application/json"}
    for size in (65 * 1024, 10 << 20):
        body = io.BytesIO(json.dumps({"target": "a" * size}).encode())
        problem = await _refused(gateway, "POST", "/api/v1/sessions", data=body, headers=typed)
        assert problem["status"] == 413
    small = {**typed, "Content-Encoding": "gzip"}
    squeezed = gzip.compress(json.dumps({"target": "a" * (10 << 20)}).encode())
    assert (await _refused(gateway, "POST", "/api/v1/sessions", data=squeezed, headers=small))["status"] == 413


async def test_a_body_that_is_not_compressed_as_it_says_is_refused(gateway: Gateway) -> None:
    headers = {**gateway.api.headers(), "Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with gateway.http.post(f"{gateway.url}/api/v1/sessions", data=b"{}", headers=headers) as answer:
        assert answer.status == 400


async def test_who_hangs_up_in_the_middle_leaves_no_traceback(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.server.port)
    writer.write(b"POST /api/v1/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    writer.write(b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.transport.abort()
    async with asyncio.timeout(10):
        while not any("POST /api/v1/sessions" in record.getMessage() for record in caplog.records):
            await asyncio.sleep(0.02)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/v1/targets?limit=0", "limit: input should be greater than or equal to 1"),
        ("/api/v1/targets?limit=1001", "limit: input should be less than or equal to 1000"),
        ("/api/v1/targets?limit=ten", "limit: input should be a valid integer"),
        ("/api/v1/targets?limit=1&limit=2", "'limit' can be given once only"),
        ("/api/v1/targets?kind=vm", "kind: input should be 'pod', 'host' or 'local'"),
        ("/api/v1/targets?q=a+b+c+d+e+f+g+h+i", "q: at most 8 different words are looked for at once"),
        ("/api/v1/targets?" + "&".join(f"label=a={n}" for n in range(9)), "label: list should have at most 8 items"),
        ("/api/v1/environments?limit=0", "limit: input should be greater than or equal to 1"),
        ("/api/v1/environments?limit=1000000000", "limit: input should be less than or equal to 1000"),
        ("/api/v1/environments?continue=%C3%BC", "continue: this is not a token"),
        ("/api/v1/environments?q=" + "a" * 10_000, "q: string should have at most 1000 characters"),
        ("/api/v1/environments?q=%E2%80%AE", "q: has characters that cannot be printed"),
        ("/api/v1/targets?label=app", "label: 'app' is none; write KEY=VALUE"),
        ("/api/v1/targets?continue=%21", "continue: this is not a token"),
        ("/api/v1/targets?q=%00", "q: has characters that cannot be printed"),
        ("/api/v1/sessions?owner=%00", "owner: has characters that cannot be printed"),
        ("/api/v1/sessions?state=dead", "state: input should be 'live', 'ended' or 'all'"),
        ("/api/v1/sessions?status=fine", "status: input should be 'pending',"),
        ("/api/v1/sessions?continue=abc", "token"),
        ("/api/v1/events?target=..", "'..' is not a target"),
        ("/api/v1/sessions?owner=" + "a" * 2000, "owner: string should have at most 1000 characters"),
    ],
)
async def test_a_wrong_query_is_explained(gateway: Gateway, path: str, said: str) -> None:
    problem = await _refused(gateway, "GET", path)
    assert problem["status"] == 400
    assert said in problem["detail"]


@pytest.mark.parametrize("wait", ["-1", "121", "nan", "inf", "soon"])
async def test_a_wait_is_a_number_of_seconds(gateway: Gateway, wait: str) -> None:
    problem = await _refused(gateway, "POST", f"/api/v1/sessions?wait={wait}", json={"target": "local/shop"})
    assert problem["status"] == 400
    assert problem["detail"].startswith("wait: ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/api/v1/targets/", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/sessions/s-1", 404),
        ("GET", "/api/v1/sessions/%00", 404),
        ("GET", "/api/v1/sessions/..%2f..%2fetc", 404),
        ("DELETE", "/api/v1/sessions/s-1", 404),
        ("POST", "/api/v1/sessions/s-1/resume", 404),
        ("GET", "/api/v1/sessions/s-1/ide/emacs", 404),
        ("GET", "/api/v1/clusters/away/doctor", 405),
        ("GET", "/api/v1/targets/local/%24%28reboot%29", 400),
        ("GET", "/api/v1/targets/local/a%0Ab", 400),
        ("GET", "/api/v1/targets/local/" + "a" * 5000, 400),
        ("PUT", "/api/v1/sessions", 405),
        ("DELETE", "/api/v1/targets", 405),
        ("OPTIONS", "/api/v1/sessions", 405),
    ],
)
async def test_a_wrong_path_is_a_problem_too(gateway: Gateway, method: str, path: str, status: int) -> None:
    url, headers = URL(gateway.url + path, encoded=True), gateway.api.headers()
    async with gateway.http.request(method, url, headers=headers) as answer:
        problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["status"]) == (status, status)
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("clusters/nowhere/doctor", {}, 404),
        ("clusters/away/doctor", {"pod": "../.."}, 400),
        ("clusters/away/doctor", {"pod": 1}, 400),
        ("releases", {"cluster": "gone", "namespace": "orders", "workload": "shop"}, 404),
        ("releases", {"cluster": "away", "namespace": "o", "workload": "s", "kind": "job"}, 400),
        ("releases", {"cluster": "away", "namespace": "o"}, 400),
    ],
)
async def test_what_cannot_be_looked_into_is_a_problem(
    gateway: Gateway, path: str, body: dict[str, object], status: int
) -> None:
    problem = await _refused(gateway, "POST", f"/api/v1/{path}", json=body)
    assert problem["status"] == status


@pytest.mark.parametrize(
    ("path", "headers", "said"),
    [
        ("targets/local/" + "a" * 10_000, {}, "at most 800 characters, this one has 10006"),
        ("targets?q=" + "a" * 10_000, {}, "q: string should have at most 1000 characters"),
        ("targets", {"Authorization": "Bearer " + "a" * 10_000}, "The header Authorization has to be"),
    ],
    ids=["path", "query", "header"],
)
async def test_10_kilobytes_are_read_and_refused(
    gateway: Gateway, path: str, headers: dict[str, str], said: str
) -> None:
    problem = await _refused(gateway, "GET", f"/api/v1/{path}", headers=headers)
    assert problem["status"] == (401 if headers else 400)
    assert said in problem["detail"]


async def test_an_expectation_that_nobody_meets_is_refused_without_a_traceback(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {**gateway.api.headers(), "Expect": "miracles"}
    async with gateway.http.post(f"{gateway.url}/api/v1/sessions", headers=headers) as answer:
        assert answer.status == 417
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Request-Id"]
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


@pytest.mark.parametrize(
    "browser",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_another_sites_page_changes_nothing(gateway: Gateway, browser: dict[str, str]) -> None:
    problem = await _refused(gateway, "POST", "/api/v1/sessions", json={"target": "local/shop"}, headers=browser)
    assert problem["status"] == 403


async def test_two_people_get_two_answers_and_one_session(gateway: Gateway) -> None:
    answers = await asyncio.gather(
        *(gateway.api.enable("local/shop", user=user, wait=0) for user in ("ada", "bob", "ada", "bob")),
        return_exceptions=True,
    )
    sessions = [answer for answer in answers if isinstance(answer, dict)]
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    assert (len(sessions), len(refusals)) == (2, 2)
    assert len({session["id"] for session in sessions}) == 1
    for refused in refusals:
        assert (refused.status, refused.problem["holder"]) == (409, sessions[0]["owner"])
        assert refused.problem["session"] == sessions[0]["id"]
    await gateway.api.end(sessions[0], user=sessions[0]["owner"])


async def test_a_name_that_the_gateway_does_not_have_is_refused(gateway: Gateway) -> None:
    for path in ("/", "/api/v1/targets", "/static/noah.css"):
        async with gateway.http.get(gateway.url + path, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 421
            assert "does not answer to 'evil.example'" in (await answer.json())["detail"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"token=x", {}, 415),
        (b"", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
        (b"token=%ff%fe", {"Content-Type": "application/x-www-form-urlencoded; charset=nonsense"}, 400),
        (b"&".join(b"a%d=1" % n for n in range(50)), {"Content-Type": "application/x-www-form-urlencoded"}, 400),
        (b"\xff\xfe", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
        (b"token=x", {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}, 400),
        (b"--x", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        (b"--x\r\nContent-Disposition: form-data; name=token\r\n\r\nx", {"Content-Type": "multipart/form-data"}, 415),
        (b'{"token": "x"}', {"Content-Type": "application/json"}, 415),
    ],
)
async def test_a_form_that_cannot_be_read_is_refused_in_a_sentence(
    gateway: Gateway, body: bytes, headers: dict[str, str], status: int
) -> None:
    problem = await _refused(gateway, "POST", "/login", data=body, headers=headers, allow_redirects=False)
    assert problem["status"] == status
