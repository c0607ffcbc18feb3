"""The mutating admission webhook: what `noah inject` does, for pods that are made in labelled namespaces.

Its own listener, with TLS: API servers call it, and nobody else has to. It never refuses a pod; what cannot be put in
is a warning that kubectl shows.
"""

import asyncio
import base64
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from noah.core.inject.manifest import inject
from noah.errors import BadInput, BadSettings
from noah.settings import WebhookSettings
from noah.webhook.certificates import Certificates

log = logging.getLogger(__name__)

PATH = "/webhook/inject"
LABEL = "debug.noah/inject"
LONGEST_REVIEW = 8 << 20  # bytes; an object has 1.5 MiB at most, and an update's review has two
LOOK_AGAIN = 60.0  # seconds; an authority that `noah webhook` has made anew is that much older at most
WARNINGS, WARNING = 10, 200  # an API server may drop more and longer ones


def review(sent: Any) -> dict[str, Any]:
    """The answer to an AdmissionReview. BadInput when it is none."""
    request = sent.get("request") if isinstance(sent, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise BadInput("This is no AdmissionReview: it has no request with a uid.")
    answer: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    pod = request.get("object")
    if isinstance(pod, dict) and isinstance(pod.get("spec"), dict):
        changes, notes = _changes(pod)
        if changes:
            patch = base64.b64encode(json.dumps(changes).encode()).decode()
            answer |= {"patchType": "JSONPatch", "patch": patch}
        if notes:
            answer["warnings"] = [note[:WARNING] for note in notes[:WARNINGS]]
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def _changes(pod: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        injected = inject({**pod, "kind": "Pod"})
    except BadInput as e:
        return [], [e.sentence]
    changes = [
        {"op": "add", "path": f"/{part}/{key}", "value": value}  # "add" also replaces
        for part in ("metadata", "spec")
        for key, value in injected.manifest.get(part, {}).items()
        if pod.get(part, {}).get(key) != value
    ]
    return changes, list(injected.notes)


def manifest(*, name: str, client: Mapping[str, Any], authority: str) -> dict[str, Any]:
    """*client*: {"url": ...} or {"service": {...}}."""
    labelled = {"matchLabels": {LABEL: "true"}}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "noah"}},
        "webhooks": [
            {
                "name": "inject.debug.noah",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {**client, "caBundle": base64.b64encode(authority.encode()).decode()},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
                "namespaceSelector": labelled,
                "objectSelector": labelled,
                # A pod without debugging is better than no pod.
                "failurePolicy": "Ignore",
                "sideEffects": "None",
                "timeoutSeconds": 3,
                "reinvocationPolicy": "IfNeeded",
            }
        ],
    }


async def _inject(request: web.Request) -> web.Response:
    try:
        return web.json_response(review(await request.json()))
    except ValueError:
        return web.json_response({"detail": "This is no JSON."}, status=400)
    except BadInput as e:
        return web.json_response({"detail": e.sentence}, status=400)


@contextlib.asynccontextmanager
async def serving(
    wanted: WebhookSettings, clock: Callable[[], datetime], *, look_again: float = LOOK_AGAIN
) -> AsyncIterator[None]:
    """*look_again*: seconds between two looks at whether the certificate is to be renewed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificates = Certificates(wanted.folder, wanted.names)
    _renew(certificates, context, clock())
    site = web.Application(client_max_size=LONGEST_REVIEW)
    site.router.add_post(PATH, _inject)
    runner = web.AppRunner(site, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, wanted.host, wanted.port, ssl_context=context).start()
        except OSError as e:
            raise BadSettings(f"The webhook cannot listen on {wanted.listen}: {e.strerror}.") from None
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(
                _keep_renewed(certificates, context, clock, look_again), name="renew the webhook's certificate"
            )
            yield
            renewing.cancel()
    finally:
        await runner.cleanup()


async def _keep_renewed(
    certificates: Certificates, context: ssl.SSLContext, clock: Callable[[], datetime], look_again: float
) -> None:
    while True:
        await asyncio.sleep(look_again)
        try:
            if certificates.is_due(clock()):
                _renew(certificates, context, clock())
                log.info("the webhook has a new certificate")
        except BadSettings as e:
            log.warning("%s", e.sentence)


def _renew(certificates: Certificates, context: ssl.SSLContext, now: datetime) -> None:
    if warning := certificates.renew(context, now):
        log.warning("%s", warning)
