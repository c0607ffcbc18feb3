"""The mutating admission webhook: what `noah inject` does, for pods that are made in labelled namespaces.

Its own listener, with TLS: API servers call it, and nobody else has to. It never refuses a pod; what cannot be put in
is a warning that kubectl shows.
"""

import asyncio
import base64
import contextlib
import json
import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from noah.backoff import Backoff
from noah.core.inject.manifest import inject
from noah.errors import BadInput, BadSettings
from noah.settings import WebhookSettings
from noah.webhook.certificates import Certificates

log = logging.getLogger(__name__)

PATH = "/webhook/inject"
TOOLS_IMAGE = web.AppKey[str | None]("tools_image")
LABEL = "debug.noah/inject"
LONGEST_REVIEW = 3 << 20  # bytes; an API server takes no longer request, and asks about creations, of one object
MOST_AT_ONCE = 4  # reviews; each takes below 0.2 s of CPU, others wait
BODY_WITHIN_S = 5.0  # an API server sends it in one go, and waits for 3 s at most
LOOK_AGAIN = 60.0  # seconds; an authority that `noah webhook` has replaced is used for that long at most
LONGEST_PAUSE_S = 3600.0  # between attempts that fail; a certificate is renewed 15 days before its end
WARNINGS, WARNING = 10, 200  # an API server may drop more and longer ones
# What reading a pod raises when a field of it has the type of another one.
MALFORMED = (AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError)


def review(sent: Any, *, tools_image: str | None = None) -> dict[str, Any]:
    """Return the answer to an AdmissionReview. Raises BadInput when it is not one, or its pod is malformed."""
    request = sent.get("request") if isinstance(sent, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise BadInput("The body is not an AdmissionReview: it has no request with a uid.")
    answer: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    pod = request.get("object")
    if isinstance(pod, dict) and isinstance(pod.get("spec"), dict):
        try:
            changes, notes = _changes(pod, tools_image)
        except MALFORMED as e:
            # No API server sends such a pod: it checks the types of a pod's fields first.
            raise BadInput(f"The pod of the AdmissionReview is malformed ({type(e).__name__}: {str(e)[:200]}).") from e
        if changes:
            patch = base64.b64encode(json.dumps(changes).encode()).decode()
            answer |= {"patchType": "JSONPatch", "patch": patch}
        if notes:
            answer["warnings"] = [note[:WARNING] for note in notes[:WARNINGS]]
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def _changes(pod: dict[str, Any], tools_image: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        injected = inject({**pod, "kind": "Pod"}, tools_image=tools_image)
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
    """Return the configuration to be applied; *client* is {"url": ...} or {"service": {...}}."""
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


class _Handler:
    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)

    async def inject(self, request: web.Request) -> web.Response:
        try:
            if not await self._is_known(request.match_info.get("token", "")):
                return _refused(
                    "The path is not the one that API servers have: `noah webhook | kubectl apply -f -`.", 404
                )
            async with asyncio.timeout(BODY_WITHIN_S):
                body = await request.read()
            async with self._at_once:
                # Beside the event loop, which other reviews and the TLS of all need.
                decided = await asyncio.to_thread(_decided, body, request.app[TOOLS_IMAGE])
            return web.json_response(decided)
        except TimeoutError:
            return _refused(f"The body did not come within {BODY_WITHIN_S:g} s.", 408)
        except (ValueError, RecursionError, web.RequestPayloadError):
            return _refused("The body is not JSON.")
        except BadInput as e:
            return _refused(e.sentence)

    async def _is_known(self, token: str) -> bool:
        """True for the path that `noah webhook` prints; until it has printed one, for the one without a token."""
        known = await asyncio.to_thread(self._certificates.known_path_token)
        return secrets.compare_digest(token.encode(), (known or "").encode())


def _decided(body: bytes, tools_image: str | None) -> dict[str, Any]:
    return review(json.loads(body), tools_image=tools_image)


def _refused(sentence: str, status: int = 400) -> web.Response:
    log.warning("a review is refused: %s", ascii(sentence))
    return web.json_response({"detail": sentence}, status=status)


@contextlib.asynccontextmanager
async def serving(
    wanted: WebhookSettings, clock: Callable[[], datetime], *, look_again: float = LOOK_AGAIN
) -> AsyncIterator[None]:
    """Serve as long as the context lasts; look every *look_again* seconds whether the certificate is due."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificates = Certificates(wanted.folder, wanted.names)
    await asyncio.to_thread(_renew, certificates, context, clock())
    site = web.Application(client_max_size=LONGEST_REVIEW)
    site[TOOLS_IMAGE] = wanted.tools_image
    handler = _Handler(certificates)
    site.router.add_post(PATH, handler.inject)
    site.router.add_post(PATH + "/{token}", handler.inject)
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
    backoff = Backoff(first_s=look_again, longest_s=LONGEST_PAUSE_S)
    pause_s = look_again
    while True:
        await asyncio.sleep(pause_s)
        pause_s = look_again
        try:
            # In a thread: keys are made, and the folder's lock may be another program's for a while.
            if await asyncio.to_thread(certificates.is_due, clock()):
                await asyncio.to_thread(_renew, certificates, context, clock())
                log.info("the webhook has a new certificate")
            backoff.reset()
        except BadSettings as e:
            pause_s = max(look_again, backoff.next_s())
            log.warning("the webhook's certificate is not renewed: %s", e.sentence)
        except Exception:  # the task's outermost loop: the webhook keeps the certificate that it has
            pause_s = max(look_again, backoff.next_s())
            log.exception("the webhook's certificate is not renewed")


def _renew(certificates: Certificates, context: ssl.SSLContext, now: datetime) -> None:
    if warning := certificates.renew(context, now):
        log.warning("%s", warning)
