"""The gateway's HTTP API, with each way to fail turned into an error with one sentence.

A proxy is used for a gateway on https only (proxy.py). Redirects are not followed: a gateway sends none, a login page
in front of something else does.
"""

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from noah.client.errors import Away, NotAGateway, error_of
from noah.client.proxy import proxy_for
from noah.errors import NeedsRestart, NoahError, Unavailable
from noah.help import explanations

if TYPE_CHECKING:
    from urllib3 import HTTPConnectionPool, PoolManager
    from urllib3.response import BaseHTTPResponse

Json = dict[str, Any]
Query = Mapping[str, str | int | list[str] | None]

CONNECT_S = 5.0  # a gateway is near, or it is not there
ANSWER_S = 30.0  # beyond what the call itself was asked to wait
QUIET_S = 40.0  # without a byte of an event stream, which pings every 15 s, before it is taken for cut
PAGE_SIZE = 500  # items asked for at once

# What may be put behind /sessions/; anything else is a typing error, or "..".
SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)


class GatewayClient:
    def __init__(
        self, url: str, token: str | None = None, *, connect_s: float = CONNECT_S, answer_s: float = ANSWER_S
    ) -> None:
        self.url = url
        self._token = token
        self._connect_s = connect_s
        self._answer_s = answer_s

    def get(self, path: str, query: Query | None = None, *, wait_s: int = 0) -> Json:
        return _object(self._send("GET", path, {**(query or {}), "wait": wait_s or None}, wait_s=wait_s), self.url)

    def post(self, path: str, body: Json | None = None, *, wait_s: int = 0) -> tuple[int, Json]:
        """Return the HTTP status and the answer."""
        query = {"wait": wait_s or None}
        response = self._send("POST", path, query, body={} if body is None else body, wait_s=wait_s)
        return response.status, _object(response, self.url)

    def delete(self, path: str, *, wait_s: int = 0) -> Json:
        return _object(self._send("DELETE", path, {"wait": wait_s or None}, wait_s=wait_s), self.url)

    def items(self, path: str, query: Query, *, limit: int | None = None) -> Json:
        """Return {"items", "continue", "total"} of all pages together, or of the first *limit* items."""
        page = self.get(path, {**query, "limit": min(limit or PAGE_SIZE, PAGE_SIZE)})
        items: list[Json] = _listed(page, self.url)
        while page.get("continue") and (limit is None or len(items) < limit):
            size = PAGE_SIZE if limit is None else min(limit - len(items), PAGE_SIZE)
            page = self.get(path, {**query, "limit": size, "continue": page["continue"]})
            items += _listed(page, self.url)
        return {"items": items, "continue": page.get("continue"), "total": page.get("total", len(items))}

    def clusters(self) -> Json:
        """Return {"items"}; there is one page of them."""
        answer = self.get("/clusters")
        _listed(answer, self.url)
        return answer

    def file(self, path: str) -> tuple[str, str]:
        """Return a file's name as the gateway suggests it ("" if it does not), and its text."""
        response = self._send("GET", path)
        named = re.search(r'filename="([^"]+)"', response.headers.get("Content-Disposition", ""))
        return named[1] if named else "", response.data.decode(errors="replace")

    def stream(self, path: str, query: Query, *, last_id: str | None) -> Iterator[bytes]:
        """Yield the body of an event stream, as it comes. Raises Away when it is cut; ends when the gateway ends it."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        response = self._send("GET", path, query, headers=headers, answer_s=QUIET_S, stream=True)
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            response.close()
            raise _not_a_gateway(response, self.url)
        return _pieces(response, self.url)

    def _send(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: int = 0,
        answer_s: float | None = None,
        stream: bool = False,
    ) -> "BaseHTTPResponse":
        import urllib3

        try:
            pool, base = self._pool()
            response = pool.request(
                method,
                base + "/api/v1" + path + _query(query or {}),
                body=None if body is None else json.dumps(body),
                headers={**self.headers(), **trace_of(method), **(headers or {})},
                timeout=urllib3.Timeout(connect=self._connect_s, read=(answer_s or self._answer_s) + wait_s),
                retries=False,
                preload_content=not stream,
            )
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise _unreachable(self.url, e) from None
        if response.status >= 300:
            raise _failure(response, self.url)
        return response

    def _pool(self) -> "tuple[PoolManager | HTTPConnectionPool, str]":
        """Return what sends requests, and what its addresses begin with."""
        import urllib3

        if (path := socket_path(self.url)) is not None:
            from noah.client.unix_socket import UnixPool

            return UnixPool(path), ""
        proxy = proxy_for(self.url)
        return urllib3.ProxyManager(proxy, num_pools=1) if proxy else urllib3.PoolManager(num_pools=1), self.url

    def headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        return headers | ({"Authorization": f"Bearer {self._token}"} if self._token else {})


def socket_path(url: str) -> str | None:
    """Return the path of unix:/PATH; None for a URL of HTTP."""
    return url.removeprefix("unix:") if url.startswith("unix:") else None


def trace_of(method: str) -> dict[str, str]:
    """Return the header of the trace that a change belongs to: TRACEPARENT's, as CI sets it, or a new one."""
    if method == "GET":
        return {}
    ours = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"  # W3C Trace Context
    return {"traceparent": os.environ.get("TRACEPARENT", ours)}


def target_path(target: str) -> str:
    return "/targets/" + quote(target, safe="/=")


def session_path(session_id: str, rest: str = "") -> str:
    return f"/sessions/{session_id}{rest}"


def _query(query: Query) -> str:
    given = {key: value for key, value in query.items() if value not in (None, [], "")}
    return "?" + urlencode(given, doseq=True) if given else ""


def _object(response: "BaseHTTPResponse", url: str) -> Json:
    try:
        answer = json.loads(response.data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _not_a_gateway(response, url)
    return answer


def _listed(page: Json, url: str) -> list[Json]:
    items = page.get("items")
    if not isinstance(items, list):
        raise NotAGateway(f"{url} answers, but not as a Noah gateway does: is NOAH_URL right?")
    return items


def _pieces(response: "BaseHTTPResponse", url: str) -> Iterator[bytes]:
    import urllib3

    try:
        while piece := response.read1(4096):
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as e:
        raise _unreachable(url, e) from None
    finally:
        response.close()


def _failure(response: "BaseHTTPResponse", url: str) -> NoahError:
    """Return what an RFC 9457 problem says. Anything else comes from a proxy, or from another server."""
    try:
        problem = json.loads(response.data)
        sentence = str(problem.get("detail") or problem["title"])
        if problem.get("needs_restart") is True:
            return NeedsRestart(sentence)
        error = error_of(response.status, sentence)
        if (code := str(problem.get("type")).partition("#")[2]) in explanations():
            error.code = code
        return error
    except (ValueError, AttributeError, KeyError):
        error = error_of(
            response.status,
            f"The gateway at {url} cannot be reached: the proxy before it answers HTTP {response.status}. "
            "Try again in a moment.",
        )
        return error if isinstance(error, Away) else _not_a_gateway(response, url)


def _not_a_gateway(response: "BaseHTTPResponse", url: str) -> NotAGateway:
    kind = response.headers.get("Content-Type", "no content type").partition(";")[0]
    return NotAGateway(
        f"{url} answers, but not as a Noah gateway does (HTTP {response.status}, {kind}): is NOAH_URL right?"
    )


def _unreachable(url: str, error: Exception) -> NoahError:
    import urllib3.exceptions as u

    if isinstance(error, u.SSLError):
        return Unavailable(f"No TLS with {url}: {error}. SSL_CERT_FILE names the authorities to trust.")
    reason = _reason(error)
    return Away(
        f"The gateway at {url} does not answer ({reason}): is `noah serve` running? Set NOAH_URL if it is elsewhere.",
        reason,
    )


def _reason(error: Exception) -> str:
    import urllib3.exceptions as u

    match error:
        case u.LocationValueError():
            return "the address is not valid"
        case u.NameResolutionError():
            return "its name cannot be resolved"
        case u.NewConnectionError():  # "...: Failed to establish a new connection: [Errno 111] Connection refused"
            return str(error).rpartition("] ")[2].lower()
        case u.ConnectTimeoutError():
            return "no connection in time"
        case u.ProxyError():
            return "the proxy does not let it pass"
        case u.ReadTimeoutError():
            return "no answer in time"
        case _:
            return "the connection was cut"
