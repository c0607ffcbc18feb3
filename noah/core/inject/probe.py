"""The probe that spares breakpoints, in the place of a container's liveness and startup probes.

The script travels inside the manifest, so that an image needs nothing of ours; its comments stay at home. The kubelet
replaces `$(NAME)` and `$$` in a probe's command: the script has neither, and dollar signs in arguments are doubled.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any
from urllib.parse import quote, urlsplit

from noah import inpod
from noah.core.inject.agent import WITHOUT_AGENT
from noah.core.inject.app import AppContainer, Part
from noah.core.inject.ledger import Change, SetValue, Swap
from noah.core.inject.switches import PREFIX
from noah.core.pods import POD_IP, SUSPENDS, url_of
from noah.errors import BadInput

Json = Mapping[str, Any]

LONGEST_URL = 2000  # characters; more than any server takes, and a probe stands in every pod's manifest
FITS_S = 3  # a probe's timeout at least: 2 s for checkurl, 1 s for the shell on a busy node
# The script takes a word of the gateway for up to 4 s for the last one: see `fresh` in liveness.sh.
PATIENCE_S = 4
# The probes that kill, and what switches them off.
PATIENT_PROBES = {"livenessProbe": "liveness", "startupProbe": "startup"}
HANDLERS = frozenset({"exec", "httpGet", "tcpSocket", "grpc"})
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}: [^\r\n\0]{0,4096}")

# A port that somebody listens at, without connecting to it. kubelet's tcpSocket asks no more than that. The kernel
# lists the sockets that listen before all others, so thousands of connections are not read.
_LISTENS = """\
hex=$(printf ':%04X' "$1")
for table in /proc/net/tcp /proc/net/tcp6; do
  [ -r $table ] || continue
  while read -r _ local _ st _; do
    case $st in st) ;; 0A) case $local in *"$hex") exit 0 ;; esac ;; *) break ;; esac
  done < $table
done
echo "noah: nothing listens on port $1"
exit 1
"""
# A debugger's report decides first, then what the old probe asked.
_OLD_PROBE = f"""\
sh -c "$1" noah-liveness - 1 && exit 0
shift
{WITHOUT_AGENT}exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Question:
    """The request by which one learns whether the app is healthy."""

    url: str
    as_kubelet: bool = False  # 200 to 399 and redirects to the same host are healthy, as for httpGet; else only 200
    headers: tuple[str, ...] = ()  # `Name: value` each

    def arguments(self, seconds: int, name: str = "jvm") -> list[str]:
        """Return the words behind `noah-liveness`."""
        more = ["200-399", *self.headers] if self.as_kubelet else []
        words = [self.url, str(seconds), *([name] if more or name != "jvm" else []), *more]
        return [word.replace("$", "$$") for word in words]

    @property
    def asks_pod(self) -> bool:
        return f"//${POD_IP}:" in self.url

    @property
    def port(self) -> int:
        """The port of this pod that is asked; 0 when it is another machine's, and nobody can see whether it listens."""
        parts = urlsplit(self.url)
        if not self.asks_pod and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            return 0
        return parts.port or (443 if parts.scheme == "https" else 80)


def probe_spec(
    *,
    checkurl: str,
    timeout_seconds: int = 3,
    period_seconds: int = 10,
    failure_threshold: int = 3,
    initial_delay_seconds: int | None = None,
    name: str = "jvm",
    as_kubelet: bool = False,
) -> dict[str, Any]:
    """Return the livenessProbe that asks checkurl, unless a debugger has suspended the JVM that reports on *name*.

    *as_kubelet*: what an httpGet takes for healthy is healthy; else only 200.
    """
    _check_url(checkurl)
    # With a second left for the start of the shell and its second look at the reports, one must remain for checkurl.
    _check("timeout", timeout_seconds, at_least=2)
    _check("period", period_seconds, at_least=1)
    _check("failure threshold", failure_threshold, at_least=1)
    if initial_delay_seconds is not None:
        _check("initial delay", initial_delay_seconds, at_least=0)
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name[:80]!r} cannot be the name of an app: letters, digits, '_', '-' and single dots.")
    delay = {} if initial_delay_seconds is None else {"initialDelaySeconds": initial_delay_seconds}
    return {
        "exec": {"command": _command(Question(checkurl, as_kubelet), timeout_seconds, name)},
        **delay,
        "timeoutSeconds": timeout_seconds,
        "periodSeconds": period_seconds,
        "failureThreshold": failure_threshold,
    }


def place_probes(app: AppContainer) -> Part:
    """Both kinds of probes that kill: the readiness probe only takes a pod out of its Services."""
    parts = [_place(app, kind, switch) for kind, switch in PATIENT_PROBES.items()]
    changes = [change for part in parts for change in part.changes]
    agent = app.own_agent
    if changes and agent is not None and agent.suspends and agent.port:
        changes.append(SetValue(app.path("env", SUSPENDS), {"name": SUSPENDS, "value": str(agent.port)}))
    return Part(tuple(changes), tuple(note for part in parts for note in part.notes))


def pod_ip(app: AppContainer) -> SetValue:
    """Return the change that tells the container its pod's address, which is the one that a kubelet asks."""
    value = {"name": POD_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return SetValue(app.path("env", POD_IP), value)


def health_question(app: AppContainer) -> Question | None:
    """Return what says that the app is healthy: the annotation, the liveness, the readiness or the startup probe."""
    if given := app.switches.get("checkurl"):
        _check_url(given)
        return Question(given)
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = app.container.get(kind) or {}
        try:
            if asked := _question(probe, app.container):
                return asked
        except BadInput:
            continue
        if url := url_of(probe):
            return Question(url, as_kubelet=True)
    return None


def _place(app: AppContainer, kind: str, switch: str) -> Part:
    old = app.container.get(kind)
    if not old or not app.switches.on(switch) or "noah-liveness" in ((old.get("exec") or {}).get("command") or ())[:4]:
        return Part()
    timeout, more = patience(app, kind, old)
    try:
        if asked := question_of(app, kind, old):
            command = _command(asked, timeout)
            more += [pod_ip(app)] * asked.asks_pod
        else:
            command = ["sh", "-c", _OLD_PROBE, "noah-liveness-old", inlined(), *_old_command(old, app.container)]
    except BadInput as e:
        return Part(
            notes=(f"The {switch} probe of container {app.name} stays as it is, and kills it at a breakpoint: {e}",)
        )
    return Part((Swap(app.path(kind), HANDLERS, {"exec": {"command": command}}), *more))


def question_of(app: AppContainer, kind: str, old: Json) -> Question | None:
    """Return the request that stands for a probe; None for one that asks by no request. BadInput for a bad one."""
    given = app.switches.get("checkurl")
    if given and (kind == "livenessProbe" or not _can_be_kept(old, app.container)):
        _check_url(given)
        return Question(given)
    return _question(old, app.container)


def patience(app: AppContainer, kind: str, old: Json) -> tuple[int, list[Change]]:
    """Return the timeout, and the changes that make a probe wait long enough for the script and for a word."""
    timeout = max(old.get("timeoutSeconds") or 1, FITS_S)
    more: list[Change] = []
    more += [SetValue(app.path(kind, "timeoutSeconds"), timeout)] * (timeout != old.get("timeoutSeconds"))
    period, threshold = old.get("periodSeconds") or 10, old.get("failureThreshold") or 3
    enough = ceil(PATIENCE_S / period) + 1
    more += [SetValue(app.path(kind, "failureThreshold"), enough)] * (threshold < enough)
    return timeout, more


def _can_be_kept(old: Json, container: Json) -> bool:
    try:
        return bool(_question(old, container) or _old_command(old, container))
    except BadInput:
        return False


def _command(question: Question, timeout: int, name: str = "jvm") -> list[str]:
    return ["sh", "-c", inlined(), "noah-liveness", *question.arguments(timeout - 1, name)]


def inlined() -> str:
    """Return the script of the probe as a manifest carries it."""
    return without_comments(inpod.script("liveness"))


def without_comments(script: str) -> str:
    """Return a script as a manifest carries it; comments all have lines of their own."""
    lines = script.splitlines()
    return "".join(f"{line}\n" for line in lines if line.strip() and not line.lstrip().startswith("#"))


def _question(probe: Json, container: Json) -> Question | None:
    """Return what an httpGet asks; None for a probe of another kind."""
    get = probe.get("httpGet")
    if not get:
        return None
    host = str(get.get("host") or f"${POD_IP}")
    path = quote(str(get.get("path") or "/"), safe="/?&=%:@!$'()*+,;~[]#")
    scheme = str(get.get("scheme") or "HTTP").lower()
    host = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{host}:{_port(get.get('port'), container)}/{path.lstrip('/')}"
    headers = tuple(f"{each.get('name')}: {each.get('value') or ''}" for each in get.get("httpHeaders") or ())
    if wrong := next((header for header in headers if not _HEADER.fullmatch(header)), None):
        raise BadInput(f"its header {wrong[:40]!r} cannot be sent from a shell: name a checkurl with {PREFIX}checkurl.")
    if len(url) > LONGEST_URL:
        raise BadInput(f"its path is longer than {LONGEST_URL} characters.")
    if not any(header.lower().startswith("user-agent:") for header in headers):
        # Apps keep a kubelet's requests out of their logs by this.
        headers = (*headers, "User-Agent: kube-probe/noah")
    return Question(url, as_kubelet=True, headers=headers)


def _old_command(old: Json, container: Json) -> list[str]:
    if command := (old.get("exec") or {}).get("command"):
        return [str(word) for word in command]
    if (port := socket_port(old, container)) is not None:
        return ["sh", "-c", _LISTENS, "noah-listens", str(port)]
    raise BadInput(f"nothing inside of a container can ask what it asks: name a checkurl with {PREFIX}checkurl.")


def socket_port(probe: Json, container: Json) -> int | None:
    """Return the port of this pod that a tcpSocket probe connects to; None for another probe."""
    socket = probe.get("tcpSocket") or {}
    return _port(socket.get("port"), container) if socket and not socket.get("host") else None


def _port(port: Any, container: Json) -> int:
    """Return the number of a port, which may be given by the name that it has in the container."""
    named = next((p.get("containerPort") for p in container.get("ports") or () if p.get("name") == port), port)
    if re.fullmatch(r"[0-9]{1,5}", str(named)):
        return int(named)
    raise BadInput(f"its port {str(port)[:40]!r} is none of the container's.")


def _check_url(checkurl: str) -> None:
    shown = repr(checkurl[:80])
    if len(checkurl) > LONGEST_URL:
        raise BadInput(f"The checkurl {shown}... is longer than {LONGEST_URL} characters.")
    try:
        parts = urlsplit(checkurl)
        # A user and password would stand in every manifest, and only curl sends them.
        bare = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        whole = parts.scheme in {"http", "https"} and bare
    except ValueError:  # a port or an IPv6 address that is none
        whole = False
    if not whole or not checkurl.isascii() or any(c <= " " or c == "\x7f" for c in checkurl):
        raise BadInput(f"{shown} is not a checkurl: it takes a whole URL such as http://127.0.0.1:8080/health.")


def _check(what: str, value: int, *, at_least: int) -> None:
    if value < at_least:
        raise BadInput(f"A {what} of {value} does not work for this probe: it takes {at_least} or more.")
