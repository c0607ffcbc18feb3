"""Which clusters there are beside those of the configuration itself: files of folders, and Secrets of a cluster.

What cannot be read, or not be used, is named in a sentence, and what was there before stays. Nothing that a Secret says
is run: who may write a Secret in one namespace must not be somebody who runs programs as the gateway.
"""

import asyncio
import base64
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from pydantic import ValidationError

from noah.errors import NoahError, Unavailable
from noah.file_state import content_of, state_of
from noah.kube.access import LONGEST_KUBECONFIG, tree_of
from noah.kube.clusters import Cluster, Clusters, open_clusters
from noah.kube.kubeconfig import choose, files_of
from noah.settings import ClusterFolder, ClusterOptions, ClusterSecrets, ClusterSettings, GivenCluster, Settings

OWN = "https://kubernetes.default.svc"  # Argo CD's address of the cluster that it runs in, for which it has no Secret
MOST = 1000  # clusters of one source
LONGEST_FILE = 1 << 20  # bytes of a kubeconfig; one with a certificate in it has some 10 KiB
PAGE = 100  # Secrets; each has some KiB
MOST_PAGES = 100  # an API server may send shorter ones


class Unusable(Exception):
    """A file or a Secret that declares no cluster; its text is a sentence."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A file or a Secret, what it declares, and why that is not what it has now."""

    named: str
    cluster: ClusterSettings | None
    trouble: str | None
    state: Hashable  # as long as it and the options are the same, it need not be read again
    options: ClusterOptions


class ClusterSources:
    """Remembers what each file and each Secret declared, for as long as it is there."""

    def __init__(self, clusters: Mapping[str, Cluster]) -> None:
        """*clusters*: where Secrets are read."""
        self.is_complete = False  # True once each source was read, and what they have is in force
        self._were_all_read = False
        self._clusters = clusters
        self._configured: dict[ClusterSettings, tuple[Hashable, ClusterSettings]] = {}
        self._folders: dict[Path, Mapping[str, _Source]] = {}
        self._secrets: dict[tuple[str, str, str], Mapping[str, _Source]] = {}

    async def read(self, settings: Settings) -> tuple[Sequence[ClusterSettings], Sequence[str]]:
        """Return all clusters, and a sentence for each thing that could not be used."""
        folders = {one.folder: one for one in settings.cluster_folders}
        secrets = {(one.cluster, one.namespace, one.label): one for one in settings.cluster_secrets}
        self._folders = {folder: self._folders[folder] for folder in folders if folder in self._folders}
        self._secrets = {key: self._secrets[key] for key in secrets if key in self._secrets}
        troubles = list[str]()
        for folder, options in folders.items():
            try:
                before = self._folders.get(folder, {})
                self._folders[folder], more = await asyncio.to_thread(_of_folder, options, before)
                troubles += more
            except OSError as e:
                troubles.append(f"The folder {folder} cannot be read: {e.strerror}.")
        for key, where in secrets.items():
            try:
                found = await self._listed(where)
            except NoahError as e:
                troubles.append(f"The Secrets in namespace {where.namespace} cannot be read: {e.sentence}")
            else:
                self._secrets[key] = await asyncio.to_thread(_of_secrets, where, found, self._secrets.get(key, {}))
        self._were_all_read = len(self._folders) == len(folders) and len(self._secrets) == len(secrets)
        configured = await self.configured(settings)
        return _together(configured, [*self._folders.values(), *self._secrets.values()], troubles)

    async def configured(self, settings: Settings) -> Sequence[ClusterSettings]:
        """Return the clusters of the configuration itself, each with where its kubeconfig leads."""
        self._configured = await asyncio.to_thread(_followed, settings.clusters, self._configured)
        return [there for _, there in self._configured.values()]

    def in_force(self) -> None:
        """Note that the clusters that were returned last are those of the gateway now."""
        self.is_complete = self._were_all_read

    async def _listed(self, where: ClusterSecrets) -> Sequence[Mapping[str, Any]]:
        cluster = self._clusters.get(where.cluster)
        if cluster is None:
            raise Unavailable(f"The gateway does not know cluster {where.cluster}.")
        found: list[Mapping[str, Any]] = []
        path = f"/api/v1/namespaces/{quote(where.namespace, safe='')}/secrets"
        params = {"labelSelector": where.label, "limit": str(PAGE)}
        for _ in range(MOST_PAGES):
            page = await cluster.get(path, params=params)
            items = page.get("items")
            found += [one for one in items if isinstance(one, dict)] if isinstance(items, list) else ()
            after = _object(page.get("metadata")).get("continue")
            if len(found) > MOST:
                break
            if not after:
                return found
            params["continue"] = str(after)
        raise Unavailable(f"There are more than {MOST} with the label {where.label}.")


@asynccontextmanager
async def open_all_clusters(
    settings: Settings, *, clock: Callable[[], datetime]
) -> AsyncIterator[tuple[Clusters, ClusterSources]]:
    """Open those that can be read now, and all that come later, for as long as this context lasts."""
    async with open_clusters((), clock=clock) as clusters:
        sources = ClusterSources(clusters)
        await clusters.configure(await sources.configured(settings))
        if settings.cluster_folders or settings.cluster_secrets:
            found, _ = await sources.read(settings)
            await clusters.configure(found)
        sources.in_force()
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


def _followed(
    configured: Sequence[ClusterSettings], before: Mapping[ClusterSettings, tuple[Hashable, ClusterSettings]]
) -> dict[ClusterSettings, tuple[Hashable, ClusterSettings]]:
    """Return where each kubeconfig leads now, or led when it could be read last."""
    found = {}
    for cluster in configured:
        state, there = before.get(cluster, (None, cluster))
        if cluster.kubeconfig is not None:
            try:
                files = [file for file in files_of(cluster.kubeconfig) if file.exists()]
                if state != (state := tuple(map(state_of, files))):
                    trees = [(one, tree_of(content_of(one, longest=LONGEST_KUBECONFIG).decode())) for one in files]
                    there = cluster.at(str(choose(trees, cluster.context)[0].server))
            except (OSError, ValueError, yaml.YAMLError):
                state = None  # the cluster itself says so
        found[cluster] = state, there
    return found


def _of_folder(folder: ClusterFolder, before: Mapping[str, _Source]) -> tuple[Mapping[str, _Source], Sequence[str]]:
    """Return what each file declares, and what is to be said of all of them. Raises OSError."""
    found = {}
    with os.scandir(folder.folder) as entries:
        # A mounted ConfigMap or Secret has its files behind a link, in a folder that begins with a dot.
        names = sorted(islice((one.name for one in entries if not one.name.startswith(".")), MOST + 1))
    for name in names[:MOST]:
        file = folder.folder / name
        if not file.is_dir():
            found[name] = _of_entry(file, folder, before.get(name))
    if len(names) > MOST:
        return found, [f"The folder {folder.folder} has more than {MOST} files: the rest is left out."]
    return found, []


def _of_entry(file: Path, folder: ClusterFolder, known: _Source | None) -> _Source:
    named, state = f"The kubeconfig {file}", None
    try:
        state = state_of(file)
        if known is not None and known.state == state and known.options == folder:
            return known
        return _Source(named, _of_file(file, folder), None, state, folder)
    except OSError as e:
        # What lets it be read may leave its state as it is.
        state, why = None, e.strerror or "it cannot be read"
    except Unusable as e:
        why = str(e)
    return _Source(named, known.cluster if known else None, f"{named} cannot be used: {why}.", state, folder)


def _of_file(file: Path, folder: ClusterFolder) -> ClusterSettings:
    """Return the cluster of a file, which its requests read again by themselves when the file changes."""
    try:
        tree = tree_of(content_of(file, longest=LONGEST_FILE).decode())
        there, _ = choose([(file, tree)], None)
        cluster = ClusterSettings(name=_name_of(file.stem), kubeconfig=file, **_options(folder))
        return cluster.at(str(there.server))
    except ValidationError:
        raise Unusable("its name is not one that a cluster can have") from None
    except (ValueError, yaml.YAMLError) as e:
        raise Unusable(_in_a_line(e)) from None


def _of_secrets(
    where: ClusterSecrets, secrets: Sequence[Mapping[str, Any]], before: Mapping[str, _Source]
) -> Mapping[str, _Source]:
    found = {}
    for secret in secrets:
        about = _object(secret.get("metadata"))
        name, state = str(about.get("name")), (str(about.get("uid")), str(about.get("resourceVersion")))
        named, known = f"Secret {where.namespace}/{name}", before.get(name)
        if known is not None and "resourceVersion" in about and known.state == state and known.options == where:
            found[name] = known
            continue
        try:
            found[name] = _Source(named, _of_secret(_object(secret.get("data")), where), None, state, where)
        except Unusable as e:
            kept = known.cluster if known else None
            found[name] = _Source(named, kept, f"{named} cannot be used: {e}.", state, where)
    return found


def _of_secret(data: Mapping[str, Any], where: ClusterSecrets) -> ClusterSettings:
    try:
        texts = {key: base64.b64decode(str(value), validate=True).decode() for key, value in data.items()}
        config = json.loads(texts.get("config") or "{}")
    except (ValueError, RecursionError):
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


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _options(given: ClusterOptions) -> dict[str, Any]:
    return {name: getattr(given, name) for name in ClusterOptions.model_fields}


def _name_of(text: str) -> str:
    """Return *text* as a cluster is called here: Argo CD takes any, and people name files as they like."""
    return re.sub(r"[^a-z0-9.-]+", "-", text.strip().lower()).strip("-.")[:63]


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
