"""Which clusters there are beside those of the configuration itself: files of folders, and Secrets of a cluster.

What cannot be read, or not be used, is named in a sentence, and what was there before stays. Nothing that a Secret says
is run: who may write a Secret in one namespace must not be somebody who runs programs as the gateway.
"""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from pydantic import ValidationError

from noah.errors import NoahError, Unavailable
from noah.file_state import FileState, state_of
from noah.kube.access import tree_of
from noah.kube.clusters import Cluster, Clusters, open_clusters
from noah.kube.kubeconfig import choose
from noah.settings import ClusterFolder, ClusterOptions, ClusterSecrets, ClusterSettings, GivenCluster, Settings

OWN = "https://kubernetes.default.svc"  # Argo CD's address of the cluster that it runs in, for which it has no Secret
MOST = 1000  # clusters of one source
LONGEST_FILE = 1 << 20  # bytes of a kubeconfig; one with a certificate in it has some 10 KiB
PAGE = 100  # Secrets; each has some KiB


class Unusable(Exception):
    """A file or a Secret that declares no cluster; its text is a sentence."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A file or a Secret, what it declares, and why that is not what it has now."""

    named: str
    cluster: ClusterSettings | None
    trouble: str | None
    state: FileState | None = None  # of the file; as long as it is the same, the file need not be read again


class ClusterSources:
    """Remembers what each file and each Secret declared, for as long as it is there."""

    def __init__(self, clusters: Mapping[str, Cluster]) -> None:
        """*clusters*: where Secrets are read."""
        self.is_complete = False  # True once each source was read
        self._clusters = clusters
        self._folders: dict[ClusterFolder, Mapping[str, _Source]] = {}
        self._secrets: dict[ClusterSecrets, Mapping[str, _Source]] = {}

    async def read(self, settings: Settings) -> tuple[Sequence[ClusterSettings], Sequence[str]]:
        """Return all clusters, and a sentence for each thing that could not be used."""
        folders, secrets = settings.cluster_folders, settings.cluster_secrets
        self._folders = {one: self._folders[one] for one in folders if one in self._folders}
        self._secrets = {one: self._secrets[one] for one in secrets if one in self._secrets}
        troubles = []
        for folder in folders:
            try:
                self._folders[folder] = await asyncio.to_thread(_of_folder, folder, self._folders.get(folder, {}))
            except OSError as e:
                troubles.append(f"The folder {folder.folder} cannot be read: {e.strerror}.")
        for where in secrets:
            try:
                found = await self._listed(where)
            except NoahError as e:
                troubles.append(f"The Secrets in namespace {where.namespace} cannot be read: {e.sentence}")
            else:
                self._secrets[where] = dict(_of_secrets(where, found, self._secrets.get(where, {})))
        self.is_complete = len(self._folders) == len(folders) and len(self._secrets) == len(secrets)
        return _together(settings.clusters, [*self._folders.values(), *self._secrets.values()], troubles)

    async def _listed(self, where: ClusterSecrets) -> Sequence[Mapping[str, Any]]:
        cluster = self._clusters.get(where.cluster)
        if cluster is None:
            raise Unavailable(f"The gateway does not know cluster {where.cluster}.")
        found: list[Mapping[str, Any]] = []
        path = f"/api/v1/namespaces/{quote(where.namespace, safe='')}/secrets"
        params = {"labelSelector": where.label, "limit": str(PAGE)}
        while len(found) <= MOST:
            page = await cluster.get(path, params=params)
            found += [one for one in page.get("items") or () if isinstance(one, dict)]
            after = (page.get("metadata") or {}).get("continue")
            if not after:
                return found
            params["continue"] = str(after)
        raise Unavailable(f"There are more than {MOST} with the label {where.label}.")


@asynccontextmanager
async def open_all_clusters(
    settings: Settings, *, clock: Callable[[], datetime]
) -> AsyncIterator[tuple[Clusters, ClusterSources]]:
    """Open those that can be read now, and all that come later, for as long as this context lasts."""
    async with open_clusters(settings.clusters, clock=clock) as clusters:
        sources = ClusterSources(clusters)
        found, _ = await sources.read(settings)
        await clusters.configure(found)
        yield clusters, sources


def _together(
    configured: Sequence[ClusterSettings], sources: Sequence[Mapping[str, _Source]], troubles: list[str]
) -> tuple[Sequence[ClusterSettings], Sequence[str]]:
    """Return all of them. The first of one name counts, and those of the configuration come first."""
    found = {one.name: one for one in configured}
    for one in (one for source in sources for one in source.values()):
        if one.trouble is not None:
            troubles.append(one.trouble)
        if one.cluster is not None and found.setdefault(one.cluster.name, one.cluster) is not one.cluster:
            troubles.append(f"{one.named} is left out: there is another cluster called {one.cluster.name}.")
    return tuple(found.values()), troubles


def _of_folder(folder: ClusterFolder, before: Mapping[str, _Source]) -> Mapping[str, _Source]:
    """Return what each file declares. Raises OSError."""
    found = {}
    # A mounted ConfigMap or Secret has its files behind a link, in a folder that begins with a dot.
    files = sorted(one for one in folder.folder.iterdir() if not one.name.startswith(".") and one.is_file())
    for file in files[:MOST]:
        named, known = f"The kubeconfig {file}", before.get(file.name)
        state = state_of(file)
        if known is not None and known.state == state:
            found[file.name] = known
            continue
        try:
            found[file.name] = _Source(named, _of_file(file, folder), None, state)
        except Unusable as e:
            kept = known.cluster if known else None
            found[file.name] = _Source(named, kept, f"{named} cannot be used: {e}.", state)
    return found


def _of_file(file: Path, folder: ClusterFolder) -> ClusterSettings:
    """Return the cluster of a file, which its requests read again by themselves when the file changes."""
    try:
        if file.stat().st_size > LONGEST_FILE:
            raise Unusable(f"it has more than {LONGEST_FILE >> 20} MiB")
        choose([(file, tree_of(file.read_text()))], None)
        return ClusterSettings(name=_name_of(file.stem), kubeconfig=file, **_options(folder))
    except OSError as e:
        raise Unusable(e.strerror or "it cannot be read") from None
    except ValidationError:
        raise Unusable("its name is not one that a cluster can have") from None
    except (ValueError, yaml.YAMLError) as e:
        raise Unusable(_in_a_line(e)) from None


def _of_secrets(
    where: ClusterSecrets, secrets: Sequence[Mapping[str, Any]], before: Mapping[str, _Source]
) -> Iterator[tuple[str, _Source]]:
    for secret in secrets:
        name = str((secret.get("metadata") or {}).get("name"))
        named = f"Secret {where.namespace}/{name}"
        try:
            yield name, _Source(named, _of_secret(secret.get("data") or {}, where), None)
        except Unusable as e:
            kept = before[name].cluster if name in before else None
            yield name, _Source(named, kept, f"{named} cannot be used: {e}.")


def _of_secret(data: Mapping[str, Any], where: ClusterSecrets) -> ClusterSettings:
    try:
        texts = {key: base64.b64decode(str(value), validate=True).decode() for key, value in data.items()}
        config = json.loads(texts.get("config") or "{}")
    except (binascii.Error, ValueError):
        raise Unusable("its config is not JSON") from None
    if not isinstance(config, dict) or not isinstance(config.get("tlsClientConfig") or {}, dict):
        raise Unusable("its config is not an object")
    for key in ("execProviderConfig", "awsAuthConfig"):
        if config.get(key):
            raise Unusable(f"{key} would have the gateway run a program: use a bearerToken or a certificate")
    server = texts.get("server", "").strip()
    options = _options(where)
    if namespaces := tuple(filter(None, (one.strip() for one in texts.get("namespaces", "").split(",")))):
        options["namespaces"] = namespaces
    try:
        name = _name_of(texts.get("name", ""))
        if server == OWN and not config:
            return ClusterSettings(name=name, in_cluster=True, **options)
        tree = _kubeconfig(server, config, config.get("tlsClientConfig") or {})
        choose([(Path(where.namespace), tree)], None)
        return GivenCluster(name=name, kubeconfig_text=json.dumps(tree), **options)
    except ValidationError:
        raise Unusable("its name is not one that a cluster can have") from None
    except ValueError as e:
        raise Unusable(_in_a_line(e)) from None


def _kubeconfig(server: str, config: Mapping[str, Any], tls: Mapping[str, Any]) -> dict[str, Any]:
    """Return a kubeconfig that says the same as a cluster's Secret does in Argo CD."""
    cluster = {
        "server": server,
        "insecure-skip-tls-verify": tls.get("insecure"),
        "certificate-authority-data": tls.get("caData"),
        "tls-server-name": tls.get("serverName"),
        "proxy-url": config.get("proxyUrl"),
        "disable-compression": config.get("disableCompression"),
    }
    user = {
        "token": config.get("bearerToken"),
        "username": config.get("username"),
        "password": config.get("password"),
        "client-certificate-data": tls.get("certData"),
        "client-key-data": tls.get("keyData"),
    }
    return {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {key: value for key, value in cluster.items() if value}}],
        "users": [{"name": "it", "user": {key: value for key, value in user.items() if value}}],
    }


def _options(given: ClusterOptions) -> dict[str, Any]:
    return {name: getattr(given, name) for name in ClusterOptions.model_fields}


def _name_of(text: str) -> str:
    """Return *text* as a cluster is called here: Argo CD takes any, and people name files as they like."""
    return re.sub(r"[^a-z0-9.-]+", "-", text.strip().lower()).strip("-.")[:63]


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
