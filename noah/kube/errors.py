"""The meaning of a Kubernetes API's answers, in one sentence each.

Every sentence names the cluster; one about rights names the verb, the resource and the namespace, so that it can be
handed to the person who grants rights.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from noah.errors import BadInput, CannotDebug, Conflict, NoahError, NotFound, Unavailable


class MissingRight(CannotDebug):
    """The gateway may not do that in this cluster."""


class NoProgram(CannotDebug):
    """The container's image does not have that program."""


class ExecCut(Unavailable):
    """The exec stream ended without a status: how the command ended is unknown."""


class TooBusy(Unavailable):
    """The API server asks to be left alone for some seconds (429, and 503 with a Retry-After)."""

    retry_after_s = 0.0


class TooOld(NoahError):
    """The resource version is no longer kept by the API server: list again."""


_VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
# "User "system:serviceaccount:a:b" cannot create resource "pods/exec" in API group "" in the namespace "x"": the API
# server's own words are surer than the path, since what an upgrade needs has changed between versions.
_REFUSED = re.compile(r'User "([^"]*)" cannot (\S+) resource "([^"]*)" in API group "([^"]*)"')

# In the words of kubelets, of containerd and of CRI-O.
_NOT_RUNNING = re.compile(r"container not found|not running|task \S+ not found|is not created")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, in the words of RBAC."""

    cluster: str
    verb: str
    resource: str  # "pods/exec", "events.events.k8s.io"
    namespace: str | None

    @classmethod
    def by(cls, cluster: str, method: str, path: str, params: Mapping[str, str] | None = None) -> Self:
        parts = path.strip("/").split("/")
        group = parts[1] if parts[0] == "apis" else ""
        rest = parts[3:] if parts[0] == "apis" else parts[2:]
        namespace = rest[1] if rest[:1] == ["namespaces"] and len(rest) > 2 else None
        rest = rest[2:] if namespace else rest
        kind, name, sub = [*rest, "", "", ""][:3]
        verb = _VERBS[method]
        if verb == "get" and not name:
            verb = "watch" if params and "watch" in params else "list"
        resource = kind + (f".{group}" if group else "") + (f"/{sub}" if sub else "")
        return cls(cluster, verb, resource or path, namespace)

    @property
    def where(self) -> str:
        inside = f'namespace "{self.namespace}" of ' if self.namespace else ""
        return f'{inside}cluster "{self.cluster}"'

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} in {self.where}"


LONGEST_RETRY_AFTER_S = 60.0


def refused(asked: Asked, status: int, body: bytes, *, retry_after: str | None = None) -> NoahError:
    """Return the error for an HTTP status of 400 or more; *retry_after* is the header, if there was one."""
    message = message_of(body) or f"HTTP {status}"
    match status:
        case 401:
            # Not MissingRight: tokens rotate and certificates are renewed, so waiting may help.
            return Unavailable(
                f'Cluster "{asked.cluster}" does not accept the gateway\'s credentials (401 to {asked}): renew them.'
            )
        case 403:
            return _forbidden(asked, message)
        case 404:
            return NotFound(f"{_capital(message)} in {asked.where}.")
        case 409:
            return Conflict(f"{_capital(message)} ({asked}).")
        case 410:
            return TooOld()
        case 400 | 422:
            return BadInput(f"{_capital(message)} ({asked}).")
        case _:
            sentence = f'Cluster "{asked.cluster}" answers {status} to {asked}: {message}.'
            if status != 429 and not retry_after:
                return Unavailable(sentence)
            error = TooBusy(sentence)
            if retry_after and retry_after.isascii() and retry_after.isdigit():  # it may also be a date
                error.retry_after_s = min(float(retry_after[:9]), LONGEST_RETRY_AFTER_S)
            return error


def message_of(body: bytes) -> str:
    """The message of a v1.Status; "" when *body* is something else, as from a proxy in between."""
    try:
        status = json.loads(body)
    except ValueError:
        return ""
    message = status.get("message") if isinstance(status, dict) else None
    return " ".join(str(message or "").split()).rstrip(".")[:500]


def ending(status: bytes | bytearray, *, container: str, program: str) -> int | NoahError:
    """Return the exit code in an exec's status, or why there is none."""
    try:
        parsed: Any = json.loads(status)
        if parsed["status"] == "Success":
            return 0
        if parsed.get("reason") == "NonZeroExitCode":
            return next(int(cause["message"]) for cause in parsed["details"]["causes"] if cause["reason"] == "ExitCode")
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return ExecCut(
            f"The exec in {container} ended with a status that cannot be understood: {bytes(status[:200])!r}."
        )
    return not_started(str(parsed.get("message", "")), container, program)


def not_started(message: str, container: str, program: str) -> NoahError:
    """Return why a command did not run, from the words of the container runtime."""
    if "executable file not found" in message or "no such file or directory" in message:
        return NoProgram(f"{_capital(container)} has no {program}.")
    if "permission denied" in message:
        return CannotDebug(f"{_capital(container)} does not let {program} be executed: permission denied.")
    if _NOT_RUNNING.search(message):
        return Unavailable(f"{_capital(container)} is not running.")
    return Unavailable(f"The exec in {container} failed: {' '.join(message.split())[:500]}.")


def _forbidden(asked: Asked, message: str) -> MissingRight:
    who = "the gateway"
    if found := _REFUSED.search(message):
        who, verb, resource, group = found.groups()
        asked = Asked(asked.cluster, verb, resource + (f".{group}" if group else ""), asked.namespace)
    # A webhook or a proxy may refuse with other words; they are then the reason.
    elif message != "HTTP 403":
        return MissingRight(f"The gateway may not {asked}: {message}.")
    return MissingRight(f"The gateway may not {asked}: grant that to {who}.")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
