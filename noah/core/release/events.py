"""Makes the events of a release from its parts: lines of containers, pods, and the cluster's own events."""

import re
from collections.abc import Iterator, Mapping, Set
from typing import Any

from noah.core.inject.hooks import SIDECAR
from noah.core.pods import Pod, phase_of
from noah.core.release.release_event import ReleaseEvent, ReleaseEventKind

Json = Mapping[str, Any]

CONDITIONS = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
_HOOK = re.compile(r"\[(preStart|preOnline)\] ?")
_OURS = "noah: "
_ONLINE = "online: "  # preonline.sh, go_online
# preonline.sh's sentences about what checkurl answers; each of the other kind takes the pod offline or says why not.
_CHECKURL = re.compile(r"(the app starts; )?waiting for checkurl|checkurl (passes|fails)")
_OFFLINE = re.compile(r"the app (starts|is down)|checkurl fails|the pod ends|waiting for checkurl")


class Lines:
    """Turns lines of containers into events, in the order in which they came.

    It remembers which pods were online: the sidecar's next sentence may mean that one is not any more.
    """

    def __init__(self) -> None:
        self._online: set[str] = set()
        self._places: dict[tuple[str, str, int], Json] = {}  # one for all lines of a run, of which there are many

    def events_of(self, pod: str, container: str, restart: int, at: str, text: str) -> Iterator[ReleaseEvent]:
        place = {"pod": pod, "container": container, "restart": restart}
        where = self._places.setdefault((pod, container, restart), place)
        if hook := _HOOK.match(text):
            yield ReleaseEvent(at, ReleaseEventKind.HOOK, text[hook.end() :], {**where, "hook": hook[1]})
            return
        said = text.removeprefix(_OURS) if container == SIDECAR and text.startswith(_OURS) else None
        if said is None:
            yield ReleaseEvent(at, ReleaseEventKind.LOG, text, where)
            return
        if said.startswith(_ONLINE):
            self._online.add(pod)
            yield ReleaseEvent(at, ReleaseEventKind.ONLINE, said.removeprefix(_ONLINE), {"pod": pod, "online": True})
            return
        if pod in self._online and _OFFLINE.match(said):
            self._online.discard(pod)
            yield ReleaseEvent(at, ReleaseEventKind.ONLINE, "healthcheck.html is gone", {"pod": pod, "online": False})
        yield (
            ReleaseEvent(at, ReleaseEventKind.CHECKURL, said, {"pod": pod})
            if _CHECKURL.match(said)
            else ReleaseEvent(at, ReleaseEventKind.LOG, text, where)
        )

    def forget_all_but(self, pods: Set[str]) -> None:
        self._online &= pods
        self._places = {key: place for key, place in self._places.items() if key[0] in pods}


class PodChanges:
    """Compares pods with what they were when they were looked at last."""

    def __init__(self) -> None:
        self._phases: dict[str, str] = {}
        self._conditions: dict[tuple[str, str], tuple[bool, str]] = {}

    def of_new(self, pod: Pod, at: str) -> Iterator[ReleaseEvent]:
        name = pod["metadata"]["name"]
        if self._phases.get(name) != (phase := phase_of(pod)):
            self._phases[name] = phase
            yield ReleaseEvent(at, ReleaseEventKind.POD, phase, {"pod": name, "is_new": True})
        for condition in pod["status"].get("conditions") or ():
            kind, now = condition["type"], (condition["status"] == "True", _why(condition))
            if kind in CONDITIONS and self._conditions.get((name, kind)) != now:
                self._conditions[name, kind] = now
                text = kind if now[0] else f"not {kind}" + (f": {now[1]}" if now[1] else "")
                yield ReleaseEvent(
                    at, ReleaseEventKind.CONDITION, text, {"pod": name, "condition": kind, "status": now[0]}
                )

    def forget_all_but(self, pods: Set[str]) -> None:
        self._phases = {pod: phase for pod, phase in self._phases.items() if pod in pods}
        self._conditions = {key: now for key, now in self._conditions.items() if key[0] in pods}

    def of_old(self, pod: Pod, at: str) -> Iterator[ReleaseEvent]:
        """Yield what happens to a pod that the release replaces; not how it was when the release began."""
        name = pod["metadata"]["name"]
        known, phase = self._phases.get(name), phase_of(pod)
        self._phases[name] = phase
        if known not in (None, phase):
            yield ReleaseEvent(at, ReleaseEventKind.POD, phase, {"pod": name, "is_new": False})


def of_event(event: Json, otherwise: str) -> ReleaseEvent:
    """Make an event of a v1.Event; *otherwise* is its time if it has none."""
    about = event["involvedObject"]
    series = event.get("series") or {}
    at = series.get("lastObservedTime") or event.get("eventTime") or event.get("lastTimestamp") or otherwise
    more = {
        "object": f"{about.get('kind')}/{about.get('name')}",
        "type": event.get("type") or "Normal",
        "reason": event.get("reason") or "",
    }
    if about.get("kind") == "Pod":
        more["pod"] = about.get("name")
    return ReleaseEvent(
        str(at), ReleaseEventKind.EVENT, " ".join(str(event.get("message") or event.get("note") or "").split()), more
    )


def _why(condition: Json) -> str:
    return " ".join(str(condition.get("message") or condition.get("reason") or "").split())
