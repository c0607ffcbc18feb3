"""What a pod's annotations ask of `noah inject`: each of its changes can be chosen or switched off.

debug.noah/inject: "false"                nothing at all
debug.noah/container: NAME                the app; also says that it is a JVM where nothing else tells
debug.noah/agent: always | on-demand | off   on-demand: after jcmd PID VM.start_java_debugging; JDK 11 to 24 only, any
                                          other JVM ends at its start
debug.noah/agent-by: auto | command | variable   auto: the variable where the manifest has it, else the command if it is
                                          known; variable: JAVA_TOOL_OPTIONS, and the image's or envFrom's is lost
debug.noah/jdwp-port: PORT                50005, or the next one that nothing else in the pod has
debug.noah/config: on | off               publish the port as debug.cloud.google.com/config
debug.noah/liveness: on | off             the liveness probe
debug.noah/startup: on | off              the startup probe
debug.noah/probe-by: auto | container | sidecar   sidecar: the image has no shell, the sidecar noah-tools answers its
                                          probes, and preStart and preOnline are left out. auto: as the image's name
                                          tells, unless debug.noah/container names the container
debug.noah/tools-image: IMAGE             of that sidecar: sh, socat and curl
debug.noah/tools-as: sidecar | container  a plain container is for clusters before 1.29
debug.noah/checkurl: URL                  what the liveness probe asks, and preOnline; exactly 200 is healthy
debug.noah/prestart: FILE | off           /app/noah/prestart.sh
debug.noah/prestart-seconds: N            600
debug.noah/command: ["java", ...]         the image's ENTRYPOINT and CMD, which no manifest tells
debug.noah/preonline: FILE | off          /app/noah/preonline.sh
debug.noah/preonline-seconds: N           300
debug.noah/preonline-tries: N             3
debug.noah/preonline-as: sidecar | container   a plain container is for clusters before 1.29
debug.noah/preonline-cpu: QUANTITY        the sidecar's request and limit: 50m, or the app's if that is less; none where
                                          the app has none, so that a pod's class stays
debug.noah/preonline-memory: QUANTITY     the same: 64Mi; a hook that starts a JVM needs more
debug.noah/drain-seconds: N               5: how long the app runs on after healthcheck.html is gone
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from noah.errors import BadInput

PREFIX = "debug.noah/"
OFF = frozenset({"off", "false", "no", "disabled"})
_KNOWN = frozenset(
    (
        *("inject", "container", "agent", "jdwp-port", "config", "liveness", "checkurl", "drain-seconds", "command"),
        *("prestart", "prestart-seconds", "preonline", "preonline-seconds", "preonline-tries", "preonline-as"),
        *("probe-by", "tools-image", "tools-as"),
        *("agent-by", "startup", "preonline-cpu", "preonline-memory", "original", "source"),
    )
)


@dataclass(frozen=True, slots=True)
class Switches:
    """BadInput from each property whose annotation cannot be meant."""

    annotations: Mapping[str, Any]

    def get(self, name: str, otherwise: str = "") -> str:
        value = self.annotations.get(PREFIX + name)
        return otherwise if value is None else str(value).strip()

    def on(self, name: str) -> bool:
        return self.get(name, "on").lower() not in OFF

    def one_of(self, name: str, *choices: str) -> str:
        """The first is the default; anything that means off is "off"."""
        value = self.get(name, choices[0]).lower()
        value = "off" if value in OFF else value
        value = choices[0] if value in ("true", "yes", "on") else value
        if value not in choices:
            raise BadInput(f"{PREFIX}{name} is {value[:40]!r}: it takes {', '.join(choices)}.")
        return value

    def number(self, name: str, otherwise: int, *, at_least: int = 1, at_most: int = 86400) -> int:
        value = self.get(name, str(otherwise))
        if not (value.isascii() and value.isdigit() and len(value) < 10 and at_least <= int(value) <= at_most):
            raise BadInput(f"{PREFIX}{name} is {value[:40]!r}: it takes a number from {at_least} to {at_most}.")
        return int(value)

    def file(self, name: str, otherwise: str) -> str | None:
        """Return a path; None when it is off."""
        if not self.on(name):
            return None
        value = self.get(name, otherwise)
        value = otherwise if value.lower() in ("on", "true", "yes") else value
        if not value.startswith("/") or not value.isprintable():
            raise BadInput(f"{PREFIX}{name} is {value[:80]!r}: it takes a file's whole path in the image, or off.")
        return value

    def words(self, name: str) -> list[str]:
        value = self.get(name)
        if not value:
            return []
        try:
            words = json.loads(value)
        except ValueError:
            words = None
        if not (isinstance(words, list) and words and all(isinstance(word, str) for word in words)):
            raise BadInput(
                f'{PREFIX}{name} is {value[:80]!r}: it takes a JSON list of words, as ["java", "-jar", "/a.jar"].'
            )
        return words

    def unknown(self) -> list[str]:
        return [key for key in self.annotations if key.startswith(PREFIX) and key.removeprefix(PREFIX) not in _KNOWN]
