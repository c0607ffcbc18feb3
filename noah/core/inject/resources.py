"""What the preOnline sidecar may use, so that a pod that fits into its namespace still does.

A quota counts it, a LimitRange judges it, and one container with a request below its limit takes a pod out of the class
Guaranteed. The sidecar has a kind of resource only where the app has it, never more of it than the app, and never a
larger ratio of limit to request: whatever the app is allowed to be, this is. A pod of BestEffort stays one.
"""

import re
from collections.abc import Mapping
from fractions import Fraction

from noah.core.inject.app import AppContainer
from noah.core.inject.switches import PREFIX
from noah.errors import BadInput

# sh and curl once a second take 1 % of a CPU; without room for a burst each run takes a whole period of 100 ms longer.
CPU, CPU_WITHOUT_BURST = Fraction(50, 1000), Fraction(100, 1000)
MEMORY = Fraction(64 << 20)  # bytes: sh, curl and sed, and a hook of such tools; a JVM needs the annotation
EPHEMERAL = Fraction(64 << 20)  # bytes: its log
_LARGEST_BURST = Fraction(10)  # times the request

_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(1000),
    **{letter: Fraction(1000**power) for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}


def sidecar_resources(app: AppContainer) -> dict[str, dict[str, str]]:
    """Return the sidecar's `resources`; empty: none. BadInput for an annotation that is not a quantity."""
    theirs = app.container.get("resources") or {}
    requests, limits = (dict(theirs.get(kind) or {}) for kind in ("requests", "limits"))
    made: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    # Where the pod as a whole has resources, its containers share them.
    if not app.spec.get("resources"):
        for name, ours in (("cpu", CPU), ("memory", MEMORY), ("ephemeral-storage", EPHEMERAL)):
            request, limit = _amount(requests.get(name)), _amount(limits.get(name))
            if request is None and limit is None:
                continue
            ratio = max(limit / request, Fraction(1)) if limit is not None and request else Fraction(1)
            is_tight = name == "cpu" and limit is not None and ratio < 2
            amount = min(x for x in (CPU_WITHOUT_BURST if is_tight else ours, request, limit) if x is not None)
            # A limit without a request is its own request.
            if name in requests or name in limits:
                made["requests"][name] = _text(name, amount)
            if limit is not None:
                burst = min(ratio, _LARGEST_BURST) if name == "cpu" else Fraction(1)
                made["limits"][name] = _text(name, min(amount * burst, limit))
    for name in ("cpu", "memory"):
        if given := app.switches.get(f"preonline-{name}"):
            amount = _given(name, given)
            made["requests"][name] = made["limits"][name] = _text(name, amount)
    return {kind: values for kind, values in made.items() if values}


def _amount(quantity: object) -> Fraction | None:
    """Return a quantity of Kubernetes as a number; None for what is not one."""
    match = re.fullmatch(
        r"(\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})([numkMGTPE]|[KMGTPE]i)?(?:[eE]([+-]?\d{1,2}))?", str(quantity)
    )
    if not match:
        return None
    return Fraction(match[1].rstrip(".")) * _SUFFIXES[match[2] or ""] * Fraction(10) ** int(match[3] or 0)


def _given(name: str, text: str) -> Fraction:
    amount = _amount(text)
    if not amount:
        raise BadInput(f"{PREFIX}preonline-{name} is {text[:40]!r}: it takes a quantity, such as {_EXAMPLES[name]}.")
    return amount


_EXAMPLES: Mapping[str, str] = {"cpu": "100m", "memory": "128Mi"}


def _text(name: str, amount: Fraction) -> str:
    if name == "cpu":
        return f"{max(1, int(amount * 1000))}m"
    mebibytes = amount / (1 << 20)
    return f"{int(mebibytes)}Mi" if mebibytes.denominator == 1 else str(int(amount))
