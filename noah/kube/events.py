"""Events on a pod (events.k8s.io/v1), so that `kubectl describe pod` says why it is stopped."""

import logging
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from noah.errors import NoahError
from noah.kube.clusters import Cluster

log = logging.getLogger(__name__)

CONTROLLER = "debug.noah/gateway"
NOTE_LIMIT = 1024  # bytes, as the API says


async def write_event(
    cluster: Cluster, pod: Mapping[str, Any], *, reason: str, action: str, note: str, now: datetime
) -> None:
    """Write an event on *pod*; *reason* and *action* are words in CamelCase.

    An event that cannot be written is logged and forgotten: a gateway can do without the right to write them.
    """
    meta = pod["metadata"]
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name'][:230]}.noah.{secrets.token_hex(6)}", "namespace": meta["namespace"]},
        "eventTime": now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "type": "Normal",
        "reason": reason,
        "action": action,
        "note": note.encode()[:NOTE_LIMIT].decode(errors="ignore"),
        "reportingController": CONTROLLER,
        "reportingInstance": "noah",
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        },
    }
    try:
        await cluster.post(f"/apis/events.k8s.io/v1/namespaces/{meta['namespace']}/events", event, timeout=5.0)
    except NoahError as e:
        log.info("no event %s on pod %s/%s: %s", reason, meta["namespace"], meta["name"], e.sentence)
