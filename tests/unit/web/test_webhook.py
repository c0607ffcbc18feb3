"""The webhook's answers, and its certificates over a real TLS connection."""

import asyncio
import base64
import fcntl
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noah.core.inject.manifest import inject, is_injected
from noah.errors import BadInput, BadSettings
from noah.settings import WebhookSettings
from noah.webhook.certificates import AUTHORITY_LASTS, LASTS, Certificates
from noah.webhook.server import PATH, review, serving
from tests.ports import free_port

Post = Callable[[bytes, Mapping[str, str]], Any]

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "shop-", "namespace": "dev"},
    "spec": {
        "containers": [
            {
                "name": "app",
                "image": "openjdk:17",
                "command": ["java"],
                "livenessProbe": {"httpGet": {"path": "/", "port": 8080}},
            }
        ]
    },
}


def asked(pod: Any) -> dict[str, Any]:
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u-1", "object": pod}}


def patched(pod: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """As an API server does it: each of these adds a member, or replaces it."""
    result = deepcopy(pod)
    for change in json.loads(base64.b64decode(answer["patch"])):
        part, key = change["path"].strip("/").split("/")
        assert change["op"] == "add"
        result[part][key] = change["value"]
    return result


def test_the_patch_makes_what_inject_makes() -> None:
    answer = review(asked(POD))["response"]
    assert (answer["uid"], answer["allowed"], answer["patchType"]) == ("u-1", True, "JSONPatch")
    assert patched(POD, answer) == inject(POD).manifest
    assert "warnings" not in answer


def test_asked_again_about_its_own_work_it_changes_nothing() -> None:
    answer = review(asked(inject(POD).manifest))["response"]
    assert answer == {"uid": "u-1", "allowed": True}


def test_a_jobs_pod_gets_no_sidecar() -> None:
    pod = deepcopy(POD)
    pod["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "nightly", "controller": True}]
    made = patched(pod, review(asked(pod))["response"])
    assert is_injected(made)
    assert "initContainers" not in made["spec"]


def test_an_app_without_a_shell_gets_the_sidecar_that_the_settings_name() -> None:
    pod = deepcopy(POD)
    pod["spec"]["containers"][0]["image"] = "gcr.io/distroless/java17"
    made = patched(pod, review(asked(pod), tools_image="tools:1")["response"])
    assert [(each["name"], each["image"]) for each in made["spec"]["initContainers"]] == [("noah-tools", "tools:1")]


@pytest.mark.parametrize("pod", [None, {}, {"spec": None}, "pod", {"metadata": {}, "spec": {"containers": []}}])
def test_what_is_no_pod_is_allowed_as_it_is(pod: Any) -> None:
    answer = review(asked(pod))["response"]
    assert answer["allowed"]
    assert "patch" not in answer


def test_what_cannot_be_done_is_a_warning_and_no_refusal() -> None:
    pod = deepcopy(POD)
    pod["metadata"]["annotations"] = {"debug.noah/original": "{"}
    answer = review(asked(pod))["response"]
    assert answer["allowed"]
    assert "changed by hand" in answer["warnings"][0]


@pytest.mark.parametrize("sent", [None, [], {}, {"request": {}}, {"request": {"uid": 1}}])
def test_what_is_no_review_is_refused(sent: Any) -> None:
    with pytest.raises(BadInput):
        review(sent)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PLACES = ("metadata", "metadata.labels", "metadata.annotations", "metadata.ownerReferences", "metadata.name", "spec",
          "spec.containers", "spec.containers.0", "spec.containers.0.name", "spec.containers.0.env",
          "spec.containers.0.command", "spec.containers.0.livenessProbe", "spec.containers.0.livenessProbe.httpGet",
          "spec.containers.0.ports", "spec.initContainers", "spec.volumes")  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), JSON)
def test_a_pod_whose_fields_have_other_types_is_answered_or_refused_in_one_line(place: str, value: Any) -> None:
    pod = deepcopy(POD)
    *above, last = place.split(".")
    within: Any = pod
    for key in above:
        within = within[int(key)] if key.isdecimal() else within[key]
    within[int(last) if last.isdecimal() else last] = value
    said = ""
    try:
        said = json.dumps(review(asked(pod)))
    except BadInput as e:
        said = e.sentence
    assert "\n" not in said


async def test_whatever_is_sent_the_answer_is_a_4xx_and_one_line(tmp_path: Path) -> None:
    async with _webhook(tmp_path) as (post, _):
        for body, headers in (
            (b"", {}),
            (b"{", {}),
            (b"\xff\xfe", {}),
            (b"[" * 100_000, {}),
            (b"--x\r\nContent-Disposition: form-data", {"Content-Type": "multipart/form-data; boundary=x"}),
            (b"not gzip", {"Content-Encoding": "gzip"}),
            (b"{}", {"Content-Type": "application/json; charset=nonsense"}),
            (json.dumps(asked({"metadata": 5, "spec": {"containers": 5}})).encode(), {}),
        ):
            async with post(body, headers) as answer:
                assert 400 <= answer.status < 500, (body[:20], answer.status)
                assert "\n" not in (await answer.text()).strip()


async def test_an_unexpected_failure_of_the_renewal_is_logged_and_the_next_attempt_succeeds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failures = iter([RuntimeError("the clock is broken")] * 3)

    def clock() -> datetime:
        if (tmp_path / "broken").exists() and (failure := next(failures, None)):
            raise failure
        return datetime.now(UTC)

    caplog.set_level("INFO")
    async with _webhook(tmp_path, clock=clock, look_again=0.02) as (_, wanted):
        (tmp_path / "broken").touch()
        (wanted.folder / "authority.crt").unlink()
        async with asyncio.timeout(60):
            while "the webhook has a new certificate" not in caplog.text:
                await asyncio.sleep(0.02)
        assert caplog.text.count("RuntimeError: the clock is broken") == 3


async def test_the_event_loop_goes_on_while_another_program_has_the_folders_lock(tmp_path: Path) -> None:
    async with _webhook(tmp_path, look_again=0.05) as (post, wanted):
        folder = os.open(wanted.folder, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        try:
            (wanted.folder / "authority.crt").unlink()
            began = asyncio.get_running_loop().time()
            while (elapsed := asyncio.get_running_loop().time() - began) < 1:
                before = asyncio.get_running_loop().time()
                async with post(json.dumps(asked(POD)).encode(), {}) as answer:
                    assert answer.status == 200
                assert asyncio.get_running_loop().time() - before < 10, elapsed
        finally:
            os.close(folder)


@asynccontextmanager
async def _webhook(
    folder: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC), look_again: float = 60.0
) -> AsyncIterator[tuple[Post, WebhookSettings]]:
    port = free_port()
    wanted = WebhookSettings(listen=f"127.0.0.1:{port}", names=("127.0.0.1",), folder=folder / "webhook")
    serves = serving(wanted, clock, look_again=look_again)
    async with serves, aiohttp.ClientSession() as http:
        authority = await asyncio.to_thread(
            lambda: Certificates(wanted.folder, wanted.names).authority(datetime.now(UTC))
        )
        context = ssl.create_default_context(cadata=authority)
        url = f"https://127.0.0.1:{port}{PATH}"
        yield lambda body, headers: http.post(url, data=body, headers=headers, ssl=context), wanted


async def test_it_answers_over_tls_that_its_authority_vouches_for(tmp_path: Path) -> None:
    port = free_port()
    wanted = WebhookSettings(listen=f"127.0.0.1:{port}", names=("127.0.0.1",), folder=tmp_path / "webhook")
    async with serving(wanted, lambda: datetime.now(UTC)), aiohttp.ClientSession() as http:
        authority = Certificates(wanted.folder, wanted.names).authority(datetime.now(UTC))
        context = ssl.create_default_context(cadata=authority)
        url = f"https://127.0.0.1:{port}{PATH}"
        async with http.post(url, json=asked(POD), ssl=context) as answer:
            assert (await answer.json())["response"]["patchType"] == "JSONPatch"
        async with http.post(url, data=b"{", ssl=context) as answer:
            assert answer.status == 400
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.post(url, json=asked(POD))
    assert (wanted.folder / "authority.key").stat().st_mode & 0o77 == 0
    assert (wanted.folder / "webhook.pem").stat().st_mode & 0o77 == 0


async def test_it_answers_at_no_other_path_than_the_one_that_was_printed_last(tmp_path: Path) -> None:
    port = free_port()
    wanted = WebhookSettings(listen=f"127.0.0.1:{port}", names=("127.0.0.1",), folder=tmp_path / "webhook")
    async with serving(wanted, lambda: datetime.now(UTC)), aiohttp.ClientSession() as http:
        certificates = Certificates(wanted.folder, wanted.names)
        context = ssl.create_default_context(cadata=certificates.authority(datetime.now(UTC)))
        token = await asyncio.to_thread(certificates.path_token)
        for path, status in (
            (f"{PATH}/{token}", 200),
            (PATH, 404),
            (f"{PATH}/", 404),
            (f"{PATH}/{token}x", 404),
            (f"{PATH}/{token[:-1]}", 404),
            (f"{PATH}/%00", 404),
        ):
            async with http.post(f"https://127.0.0.1:{port}{path}", json=asked(POD), ssl=context) as answer:
                assert (path, answer.status) == (path, status)


def test_a_certificate_is_renewed_long_before_its_end_by_the_same_authority(tmp_path: Path) -> None:
    certificates, now = Certificates(tmp_path / "w", ["noah.dev.svc"]), datetime(2026, 1, 1, tzinfo=UTC)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    assert certificates.is_due(now)
    certificates.renew(context, now)
    authority, first = certificates.authority(now), (tmp_path / "w" / "webhook.pem").read_bytes()
    assert not certificates.is_due(now + LASTS / 2 - timedelta(hours=1))
    later = now + LASTS / 2 + timedelta(hours=1)
    assert certificates.is_due(later)
    certificates.renew(context, later)
    assert not certificates.is_due(later)
    assert (tmp_path / "w" / "webhook.pem").read_bytes() != first
    assert certificates.authority(later) == authority


def test_an_authority_is_warned_of_before_it_ends_and_followed_by_another_one_after(tmp_path: Path) -> None:
    certificates, begin = Certificates(tmp_path / "w", ["noah.dev.svc"]), datetime(2026, 1, 1, tzinfo=UTC)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    assert certificates.renew(context, begin) is None
    first, end = certificates.authority(begin), begin + AUTHORITY_LASTS
    warning = certificates.renew(context, end - timedelta(days=1))
    assert f"ends on {end:%Y-%m-%d}" in str(warning)
    assert certificates.authority(end - timedelta(days=1)) == first
    assert not certificates.is_due(end - timedelta(hours=1))
    assert certificates.is_due(end)
    assert "has ended" in str(certificates.renew(context, end))
    assert certificates.authority(end) != first
    assert certificates.renew(context, end) is None


def test_an_authority_that_somebody_else_has_made_is_taken_over(tmp_path: Path) -> None:
    certificates, now = Certificates(tmp_path / "w", ["noah.dev.svc"]), datetime(2026, 1, 1, tzinfo=UTC)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificates.renew(context, now)
    assert not certificates.is_due(now)
    (tmp_path / "w" / "authority.crt").unlink()
    Certificates(tmp_path / "w", ["noah.dev.svc"]).authority(now)
    assert certificates.is_due(now)
    certificates.renew(context, now)
    assert not certificates.is_due(now)


def test_two_that_begin_at_once_have_one_authority(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    several = [Certificates(tmp_path / "w", ["noah.dev.svc"]) for _ in range(8)]
    with ThreadPoolExecutor(len(several)) as threads:
        assert len(set(threads.map(lambda one: one.authority(now), several))) == 1


@pytest.mark.parametrize(
    ("name", "says"), [("authority.crt", "is not a certificate"), ("authority.key", "is not a key")]
)
def test_a_broken_authority_is_named(tmp_path: Path, name: str, says: str) -> None:
    certificates, now = Certificates(tmp_path / "w", ["noah.dev.svc"]), datetime(2026, 1, 1, tzinfo=UTC)
    certificates.authority(now)
    (tmp_path / "w" / name).write_text("broken")
    with pytest.raises(BadSettings, match=says):
        certificates.renew(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), now)
