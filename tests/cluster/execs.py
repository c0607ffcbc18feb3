"""Counts the gateway's execs as the API server saw them, in its audit log."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Exec:
    """One request for pods/exec."""

    pod: str
    at: datetime
    command: str
    as_user: str | None  # who was impersonated for it


class AuditLog:
    """The file, and those that it was before it grew too large."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def execs(self, namespace: str, *pods: str, since: datetime, until: datetime) -> Sequence[Exec]:
        """Execs of gateways between two times, by time; in all pods of *namespace*, or in *pods*."""
        found: dict[str, Exec] = {}
        needle = f'"namespace":"{namespace}"'.encode()
        for file in self._file.parent.glob(f"{self._file.stem}*{self._file.suffix}"):
            if file.stat().st_mtime < since.timestamp():
                continue
            with file.open("rb") as lines:
                for line in lines:
                    if needle in line and line.endswith(b"\n"):
                        self._take(json.loads(line), found)
        wanted = [e for e in found.values() if since <= e.at < until and (not pods or e.pod in pods)]
        return sorted(wanted, key=lambda e: e.at)

    def _take(self, event: dict[str, object], found: dict[str, Exec]) -> None:
        # An exec has an entry when it begins and one when it ends.
        key, which, agent = event["auditID"], event["objectRef"], event.get("userAgent", "")
        assert isinstance(key, str)
        assert isinstance(which, dict)
        if which.get("subresource") == "exec" and agent == "noah":
            at = datetime.fromisoformat(str(event["requestReceivedTimestamp"]))
            argv = parse_qs(urlsplit(str(event["requestURI"])).query)["command"]
            impersonated = event.get("impersonatedUser")
            as_user = str(impersonated["username"]) if isinstance(impersonated, dict) else None
            found[key] = Exec(which["name"], at, " ".join(argv), as_user)
