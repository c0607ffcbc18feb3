"""The debug plumbing of one container: the JDWP agent, where it listens, and a probe that spares breakpoints."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from noah.core.inject.ledger import Ledger
from noah.core.inject.probe import inlined, probe_spec
from noah.core.inject.switches import PREFIX, Switches
from noah.core.pods import DEBUG_CONFIG, OPTIONS, checkurl_of, jdwp_options, jdwp_port
from noah.errors import BadInput

Json = Mapping[str, Any]

OURS = "JAVA_TOOL_OPTIONS"  # the one that every JVM reads, from Java 5 on
PORT = 50005
FITS = 3  # seconds that a probe is given at least: 2 for checkurl, 1 for the shell

# A port that somebody listens at, without connecting to it. kubelet's tcpSocket asks no more than that.
_LISTENS = """\
hex=$(printf ':%04X' "$1")
for table in /proc/net/tcp /proc/net/tcp6; do
  [ -r $table ] || continue
  while read -r _ local _ st _; do
    case $local$st in *"$hex"0A) exit 0 ;; esac
  done < $table
done
echo "noah: nothing listens on port $1"
exit 1
"""
# A debugger's report decides first, then what the old probe asked. Nobody listens at port 9, so that the liveness
# script, given that for a checkurl, says alive only when a report does.
_OLD_PROBE = """\
sh -c "$1" noah-liveness http://127.0.0.1:9/ 1 && exit 0
shift
exec "$@"
"""


def place_agent(ledger: Ledger, container: Json, switches: Switches) -> str | None:
    """A sentence when it is not put in. An agent that is there already is kept."""
    kind = switches.one_of("agent", "always", "on-demand", "off")
    name = container["name"]
    pod = {"metadata": ledger.tree.get("metadata") or {}, "spec": ledger.tree["spec"]}
    port = switches.number("jdwp-port", PORT, at_most=65535)
    if jdwp_options(pod, name) is not None:
        port = jdwp_port(pod, name, port)
    elif kind == "off":
        return None
    else:
        old = next((e for e in container.get("env") or () if e["name"] == OURS), None)
        if old is not None and "valueFrom" in old:
            return f"{OURS} of container {name} comes from elsewhere (valueFrom): add {agent(port, kind)} there."
        options = f"{old.get('value') or ''} {agent(port, kind)}".lstrip() if old else agent(port, kind)
        path = ("spec", "containers", name, "env", OURS)
        if old:
            ledger.put((*path, "value"), options)
        else:
            ledger.put(path, {"name": OURS, "value": options})
    if switches.on("config"):
        _publish(ledger, name, port)
    return None


def agent(port: int, kind: str = "always") -> str:
    """Loopback only; quiet, for it would print a line each time that it listens again."""
    on_demand = ",onjcmd=y" if kind == "on-demand" else ""
    return f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{port},quiet=y{on_demand}"


def _publish(ledger: Ledger, container: str, port: int) -> None:
    annotations = (ledger.tree.get("metadata") or {}).get("annotations") or {}
    try:
        config = json.loads(annotations.get(DEBUG_CONFIG) or "{}")
    except ValueError:
        return  # somebody else's; not ours to mend
    if not isinstance(config, dict) or "jdwp" in ((config.get(container) or {}).get("ports") or {}):
        return
    config[container] = {"runtime": "jvm", **(config.get(container) or {}), "ports": {"jdwp": port}}
    ledger.put(("metadata", "annotations", DEBUG_CONFIG), json.dumps(config, separators=(",", ":")))


def place_probe(ledger: Ledger, container: Json, switches: Switches) -> str | None:
    """A sentence when the liveness probe stays, and so kills at a breakpoint."""
    old = container.get("livenessProbe")
    if not old or not switches.on("liveness") or "noah-liveness" in ((old.get("exec") or {}).get("command") or ())[:4]:
        return None
    try:
        new = _probe(old, container, switches.get("checkurl"))
    except BadInput as e:
        return f"The liveness probe of container {container['name']} stays as it is, and kills it at a breakpoint: {e}"
    ledger.put(("spec", "containers", container["name"], "livenessProbe"), new)
    return None


def _probe(old: Json, container: Json, given: str) -> dict[str, Any]:
    rhythm: dict[str, Any] = {
        "timeout_seconds": max(old.get("timeoutSeconds") or 1, FITS),
        "period_seconds": old.get("periodSeconds") or 10,
        "failure_threshold": old.get("failureThreshold") or 3,
        "initial_delay_seconds": old.get("initialDelaySeconds"),
    }
    kept = {k: old[k] for k in ("successThreshold", "terminationGracePeriodSeconds") if k in old}
    url = given or _url(old, container)
    if url:
        return probe_spec(checkurl=url, **rhythm) | kept
    command = _old_command(old, container)
    new = probe_spec(checkurl="http://127.0.0.1:9/", **rhythm)
    return new | {"exec": {"command": ["sh", "-c", _OLD_PROBE, "noah-liveness-old", inlined(), *command]}} | kept


def _url(old: Json, container: Json) -> str | None:
    """What an httpGet asks, or an exec by curl or wget; None when it asks in another way."""
    if get := old.get("httpGet"):
        if get.get("httpHeaders"):
            raise BadInput(f"it sends headers, which a checkurl cannot: name one with {PREFIX}checkurl.")
        return _http(get, container)
    return None


def _http(get: Json, container: Json) -> str:
    host = str(get.get("host") or "127.0.0.1")
    path = quote(str(get.get("path") or "/"), safe="/?&=%:@!$'()*+,;~[]#")
    scheme = str(get.get("scheme") or "HTTP").lower()
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{_port(get.get('port'), container)}/{path.lstrip('/')}"


def _old_command(old: Json, container: Json) -> list[str]:
    if command := (old.get("exec") or {}).get("command"):
        return list(command)
    socket = old.get("tcpSocket") or {}
    if socket and not socket.get("host"):
        return ["sh", "-c", _LISTENS, "noah-listens", str(_port(socket.get("port"), container))]
    raise BadInput(f"nothing inside of a container can ask what it asks: name a checkurl with {PREFIX}checkurl.")


def _port(port: Any, container: Json) -> int:
    """Ports may be given by the name that they have in the container."""
    named = next((p.get("containerPort") for p in container.get("ports") or () if p.get("name") == port), port)
    if str(named).isdecimal():
        return int(named)
    raise BadInput(f"its port {str(port)[:40]!r} is none of the container's.")


def checkurl(container: Json, switches: Switches) -> str | None:
    """What says that the app is healthy: the annotation, the liveness probe, the readiness probe, the startup probe."""
    if given := switches.get("checkurl"):
        return given
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(kind) or {}
        if get := probe.get("httpGet"):
            try:
                return _http(get, container)
            except BadInput:
                continue
        pod = {"spec": {"containers": [{"name": "it", "livenessProbe": probe}]}}
        if url := checkurl_of(pod, "it"):
            return url
    return None


_JAVA = re.compile(
    r"(?:^|[/:_.-])(?:java|jdk|jre|openjdk|temurin|corretto|zulu|graalvm|tomcat|jetty|wildfly|jboss|spring|payara|liberty)"
    r"(?=$|[/:_.@-]|\d)"
)


def is_jvm(pod: Json, container: Json) -> bool:
    """As far as a manifest tells: an option for Java, the command, the image's name."""
    names = {e.get("name") for e in container.get("env") or ()}
    if names & {*OPTIONS, "JAVA_HOME", "CATALINA_OPTS", "JVM_OPTS"} or jdwp_options(pod, container["name"]) is not None:
        return True
    words = " ".join(str(word) for word in (*(container.get("command") or ()), *(container.get("args") or ())))
    if re.search(r"(?:^|[\s/])java(?:\s|$)|\.(?:jar|war)(?:\s|$)", words):
        return True
    return bool(_JAVA.search(str(container.get("image") or "").lower()))
