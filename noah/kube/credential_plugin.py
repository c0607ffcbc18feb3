"""Runs the exec plugin of a kubeconfig's user, as client-go does, and keeps its credentials until they expire.

The gateway has no terminal: a plugin gets no stdin, and its input says so. Its stderr is the reason of a failure.
"""

import base64
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from noah import command
from noah.clock import machine_clock
from noah.kube import bounded_json
from noah.kube.bounded_json import TooLarge
from noah.kube.kubeconfig import CredentialPlugin, KubeconfigCluster

INFO = "KUBERNETES_EXEC_INFO"  # the variable in which a plugin finds what is asked of it
REASON_LENGTH = 500  # characters of a plugin's stderr, and of its install hint


@dataclass(frozen=True, slots=True)
class Credentials:
    token: str
    certificate: bytes | None
    key: bytes | None
    expires: datetime | None


class NoCredentials(ValueError):
    """There are no credentials now: those that there were before may still be good."""


class PluginRunner:
    def __init__(self, plugin: CredentialPlugin, *, clock: Callable[[], datetime] = machine_clock) -> None:
        self.plugin = plugin
        self._clock = clock
        self._kept: Credentials | None = None

    async def credentials(self, cluster: KubeconfigCluster, ca: bytes | None) -> Credentials:
        """Return credentials that have not expired; raise NoCredentials when the plugin gives none."""
        if self._kept is None or (self._kept.expires is not None and self._kept.expires <= self._clock()):
            self._kept = await self._run(cluster, ca)
        return self._kept

    async def _run(self, cluster: KubeconfigCluster, ca: bytes | None) -> Credentials:
        plugin = self.plugin
        found = shutil.which(plugin.command)
        if found is None:
            hint = f" ({_one_line(plugin.install_hint)})" if plugin.install_hint else ""
            raise NoCredentials(f"its exec plugin {plugin.command} was not found{hint}")
        spec: dict[str, Any] = {"interactive": False}
        if plugin.provide_cluster_info:
            spec["cluster"] = _cluster_info(cluster, ca)
        info = {"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec}
        env = {**os.environ, **dict(plugin.env), INFO: json.dumps(info)}
        # Who asks for an access gives it its time.
        code, out, err = await command.run([found, *plugin.args], timeout=None, reads_stderr=True, env=env)
        if code:
            why = _one_line(err.decode(errors="replace")) or "it said nothing"
            raise NoCredentials(f"its exec plugin {plugin.command} ended with exit code {code}: {why}")
        try:
            return _parsed(bounded_json.parse(out), plugin.api_version)
        except (ValueError, TooLarge) as e:
            raise NoCredentials(
                f"its exec plugin {plugin.command} printed no credentials: {_one_line(str(e))}"
            ) from None


def _parsed(printed: Any, api_version: str) -> Credentials:
    if not isinstance(printed, dict) or printed.get("kind") != "ExecCredential":
        raise ValueError("not an ExecCredential")
    if printed.get("apiVersion") != api_version:
        raise ValueError(f"apiVersion is {printed.get('apiVersion')!r} and not {api_version!r}")
    status = printed.get("status")
    if not isinstance(status, dict):
        raise ValueError("there is no status")
    token, certificate, key, expires = (
        status.get(name) or "" for name in ("token", "clientCertificateData", "clientKeyData", "expirationTimestamp")
    )
    if not all(isinstance(one, str) for one in (token, certificate, key, expires)):
        raise ValueError("a field of the status is not a text")
    if bool(certificate) != bool(key):
        raise ValueError("only one of clientCertificateData and clientKeyData")
    if not token and not certificate:
        raise ValueError("neither a token nor a certificate")
    until = datetime.fromisoformat(expires) if expires else None
    if until is not None and until.tzinfo is None:
        raise ValueError(f"expirationTimestamp {expires!r} has no time zone")
    return Credentials(token, certificate.encode() or None, key.encode() or None, until)


def _cluster_info(cluster: KubeconfigCluster, ca: bytes | None) -> dict[str, Any]:
    """Return client.authentication.k8s.io's Cluster: empty fields are left out, as client-go does."""
    info = {
        "server": str(cluster.server),
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure,
        "certificate-authority-data": base64.b64encode(ca or b"").decode(),
        "proxy-url": str(cluster.proxy or ""),
        "disable-compression": cluster.disable_compression,
    }
    return {name: value for name, value in info.items() if value} | {"config": cluster.exec_config}


def _one_line(text: str) -> str:
    """Return *text* without line breaks and control characters, which might be meant for a terminal."""
    return "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))[:REASON_LENGTH].rstrip(".")
