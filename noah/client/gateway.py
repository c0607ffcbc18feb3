"""The gateway as the command line sees it: its HTTP API, with each way to fail turned into one sentence.

No proxy is ever used, whatever the environment says: a debugger has to reach the gateway's ports directly, and so
must its commands. Redirects are not followed: no gateway sends one, a login page in front of something else does.
"""

import getpass
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from noah.client.failure import Code, Failure, code_of

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

Json = dict[str, Any]
Query = Mapping[str, str | int | list[str] | None]

DEFAULT_URL = "http://127.0.0.1:7070"
CONNECT = 5.0  # seconds; a gateway is near, or it is not there
ANSWER = 30.0  # seconds; beyond what the call itself was asked to wait
QUIET = 40.0  # seconds without a byte of an event stream, which pings every 15, before it is taken for cut
PAGE = 500  # items asked for at once

# What may be put behind /sessions/; anything else is somebody's typing error, or "..".
SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)


class Away(Failure):
    """The gateway may be back in a moment: who waits for something may go on waiting."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(Code.UNAVAILABLE, sentence)
        self.reason = reason


class NeedsRestart(Failure):
    """The same request goes on when it is confirmed."""


class Gateway:
    def __init__(self, url: str, user: str, *, connect: float = CONNECT, answer: float = ANSWER) -> None:
        self.url = url
        self.user = user
        self._connect = connect
        self._answer = answer

    def get(self, path: str, query: Query | None = None, *, wait: int = 0) -> Json:
        return _object(self._send("GET", path, {**(query or {}), "wait": wait or None}, wait=wait), self.url)

    def post(self, path: str, body: Json | None = None) -> tuple[int, Json]:
        """The HTTP status, and the answer."""
        response = self._send("POST", path, body={} if body is None else body)
        return response.status, _object(response, self.url)

    def delete(self, path: str) -> Json:
        return _object(self._send("DELETE", path), self.url)

    def items(self, path: str, query: Query, *, limit: int | None = None) -> Json:
        """{"items", "continue", "total"} of all pages together, or of the first *limit* items."""
        page = self.get(path, {**query, "limit": min(limit or PAGE, PAGE)})
        items: list[Json] = _listed(page, self.url)
        while page.get("continue") and (limit is None or len(items) < limit):
            size = PAGE if limit is None else min(limit - len(items), PAGE)
            page = self.get(path, {**query, "limit": size, "continue": page["continue"]})
            items += _listed(page, self.url)
        return {"items": items, "continue": page.get("continue"), "total": page.get("total", len(items))}

    def clusters(self) -> Json:
        """{"items"}; there is one page of them."""
        answer = self.get("/clusters")
        _listed(answer, self.url)
        return answer

    def file(self, path: str) -> tuple[str, str]:
        """A file's name, as the gateway suggests it ("" if it does not), and its text."""
        response = self._send("GET", path)
        named = re.search(r'filename="([^"]+)"', response.headers.get("Content-Disposition", ""))
        return named[1] if named else "", response.data.decode(errors="replace")

    def stream(self, path: str, query: Query, *, last_id: str | None) -> Iterator[bytes]:
        """The body of an event stream, as it comes. Away when it is cut; it just ends when the gateway ends it."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        return _pieces(self._send("GET", path, query, headers=headers, answer=QUIET, stream=True), self.url)

    def _send(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
        wait: int = 0,
        answer: float | None = None,
        stream: bool = False,
    ) -> "BaseHTTPResponse":
        import urllib3

        try:
            response = urllib3.PoolManager(num_pools=1).request(
                method,
                self.url + "/api/v1" + path + _query(query or {}),
                body=None if body is None else json.dumps(body),
                headers={**self._headers(), **(headers or {})},
                timeout=urllib3.Timeout(connect=self._connect, read=(answer or self._answer) + wait),
                retries=False,
                preload_content=not stream,
            )
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise _away(self.url, e) from None
        if response.status >= 300:
            raise _failure(response, self.url)
        return response

    def _headers(self) -> dict[str, str]:
        return {
            # The bytes of the header are UTF-8; http.client would only write latin-1.
            "Noah-User": self.user.encode().decode("latin-1"),
            "Accept": "application/json",
            "Content-Type": "application/json",
        }


def connect(environ: Mapping[str, str] = os.environ, *, connect: float = CONNECT, answer: float = ANSWER) -> Gateway:
    """The gateway that the environment names."""
    return Gateway(_url(environ), _user(environ), connect=connect, answer=answer)


def target_path(target: str) -> str:
    return "/targets/" + quote(target, safe="/=")


def session_path(session_id: str, rest: str = "") -> str:
    return f"/sessions/{session_id}{rest}"


def _url(environ: Mapping[str, str]) -> str:
    url = (environ.get("NOAH_URL") or DEFAULT_URL).strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.query
    except ValueError:  # a port that is no number
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise Failure(Code.USAGE, f"NOAH_URL is {url[:80]!r}: write something like http://gateway.example.org:7070.")
    return url


def _user(environ: Mapping[str, str]) -> str:
    try:
        user = environ.get("NOAH_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        raise Failure(Code.USAGE, "Your login has no name here: set NOAH_USER to say who you are.") from None
    if not user.isprintable() or not user.strip() or len(user) > 128:
        raise Failure(Code.USAGE, f"NOAH_USER is {user[:40]!r}: a name has 1 to 128 printable characters.")
    return user


def _query(query: Query) -> str:
    given = {key: value for key, value in query.items() if value not in (None, [], "")}
    return "?" + urlencode(given, doseq=True) if given else ""


def _object(response: "BaseHTTPResponse", url: str) -> Json:
    try:
        answer = json.loads(response.data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _no_gateway(response, url)
    return answer


def _listed(page: Json, url: str) -> list[Json]:
    items = page.get("items")
    if not isinstance(items, list):
        raise Failure(Code.UNEXPECTED, f"{url} answers, but not as a Noah gateway does: is NOAH_URL right?")
    return items


def _pieces(response: "BaseHTTPResponse", url: str) -> Iterator[bytes]:
    import urllib3

    try:
        while piece := response.read1(4096):
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as e:
        raise _away(url, e) from None
    finally:
        response.close()


def _failure(response: "BaseHTTPResponse", url: str) -> Failure:
    """What an RFC 9457 problem says; what else answers is a proxy, or no gateway at all."""
    code = code_of(response.status)
    try:
        problem = json.loads(response.data)
        sentence = str(problem.get("detail") or problem["title"])
        if problem.get("needs_restart") is True:
            return NeedsRestart(code, sentence)
    except (ValueError, AttributeError, KeyError):
        if code is not Code.UNAVAILABLE:
            return _no_gateway(response, url)
        sentence = f"The gateway at {url} cannot be reached: what stands before it says HTTP {response.status}."
    if code is Code.UNAVAILABLE:
        return Away(sentence, f"HTTP {response.status}")
    return Failure(code, sentence)


def _no_gateway(response: "BaseHTTPResponse", url: str) -> Failure:
    kind = response.headers.get("Content-Type", "no content type").partition(";")[0]
    return Failure(
        Code.UNEXPECTED,
        f"{url} answers, but not as a Noah gateway does (HTTP {response.status}, {kind}): is NOAH_URL right?",
    )


def _away(url: str, error: Exception) -> Failure:
    import urllib3.exceptions as u

    if isinstance(error, u.SSLError):
        return Failure(Code.UNAVAILABLE, f"No TLS with {url}: {error}. SSL_CERT_FILE names the authorities to trust.")
    reason = _reason(error)
    return Away(
        f"The gateway at {url} does not answer ({reason}): is `noah serve` running? Set NOAH_URL if it is elsewhere.",
        reason,
    )


def _reason(error: Exception) -> str:
    import urllib3.exceptions as u

    match error:
        case u.LocationValueError():
            return "that is no address"
        case u.NameResolutionError():
            return "its name cannot be resolved"
        case u.NewConnectionError():  # "...: Failed to establish a new connection: [Errno 111] Connection refused"
            return str(error).rpartition("] ")[2].lower()
        case u.ConnectTimeoutError():
            return "no connection in time"
        case u.ReadTimeoutError():
            return "no answer in time"
        case _:
            return "the connection was cut"
