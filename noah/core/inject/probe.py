"""The liveness probe that spares breakpoints, as a container's `livenessProbe`.

The script travels inside the manifest, so that an image needs nothing of ours; its comments stay at home. The kubelet
replaces `$(NAME)` and `$$` in a probe's command: the script has neither, and checkurl's dollar signs are doubled.
"""

import re
from typing import Any
from urllib.parse import urlsplit

from noah import inpod
from noah.errors import BadInput

LONGEST_URL = 2000  # characters; more than any server takes, and a probe stands in every pod's manifest
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")


def probe_spec(
    *,
    checkurl: str,
    timeout_seconds: int = 3,
    period_seconds: int = 10,
    failure_threshold: int = 3,
    initial_delay_seconds: int | None = None,
    name: str = "jvm",
) -> dict[str, Any]:
    """The livenessProbe that asks checkurl, unless a debugger has suspended the JVM that reports on NAME name."""
    _check_url(checkurl)
    # With a second left for the start of the shell and its second look at the reports, one must remain for checkurl.
    _check("timeout", timeout_seconds, at_least=2)
    _check("period", period_seconds, at_least=1)
    _check("failure threshold", failure_threshold, at_least=1)
    if initial_delay_seconds is not None:
        _check("initial delay", initial_delay_seconds, at_least=0)
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name[:80]!r} cannot be the name of an app: letters, digits, '_', '-' and single dots.")
    deadline = timeout_seconds - 1
    arguments = [checkurl.replace("$", "$$"), str(deadline), *([name] if name != "jvm" else [])]
    delay = {} if initial_delay_seconds is None else {"initialDelaySeconds": initial_delay_seconds}
    return {
        "exec": {"command": ["sh", "-c", inlined(), "noah-liveness", *arguments]},
        **delay,
        "timeoutSeconds": timeout_seconds,
        "periodSeconds": period_seconds,
        "failureThreshold": failure_threshold,
    }


def inlined() -> str:
    return without_comments(inpod.script("liveness"))


def without_comments(script: str) -> str:
    """A script as a manifest carries it; comments all have lines of their own."""
    lines = script.splitlines()
    return "".join(f"{line}\n" for line in lines if line.strip() and not line.lstrip().startswith("#"))


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
        raise BadInput(f"{shown} is no checkurl: it takes a whole URL such as http://127.0.0.1:8080/health.")


def _check(what: str, value: int, *, at_least: int) -> None:
    if value < at_least:
        raise BadInput(f"A {what} of {value} does not work for this probe: it takes {at_least} or more.")
