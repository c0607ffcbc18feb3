"""How to reach one Kubernetes API and as whom: read from a kubeconfig, from the pod that we run in, or from files.

What is read is used for a minute and then read again, since tokens rotate, certificates are renewed and exec plugins
give credentials for a while. A file that cannot be read then changes nothing; one that says something else, or that is
refused, counts at once: nothing is done with rights that the file no longer means.
"""

import asyncio
import base64
import contextlib
import json
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yarl import URL

from noah.errors import Unavailable
from noah.file_state import content_of
from noah.kube.credential_plugin import NoCredentials, PluginRunner
from noah.kube.kubeconfig import KubeconfigCluster, KubeconfigUser, Pem, choose, files_of
from noah.kube.proxies import proxy_from
from noah.settings import ClusterSettings, GivenCluster

FRESH_S = 60.0  # the kubelet renews a token when a fifth of its life is left, which is minutes at least
LOAD_TIMEOUT_S = 30.0  # for an exec plugin; the clouds' need 1 to 5
LONGEST_KUBECONFIG = 16 << 20  # bytes; each cluster in it has some 10 KiB with its certificates
POD_FILES = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    base: URL  # may have a path, as behind the proxies of Rancher and KubeSphere
    headers: tuple[tuple[str, str], ...]  # of every request: who asks, and as whom
    tls: ssl.SSLContext | bool
    server_name: str | None  # what the certificate must say instead of the URL's host
    proxy: URL | None


@dataclass(frozen=True, slots=True)
class _Trust:
    """The ingredients of a TLS context; a new context is made only when one of them has changed."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None
    insecure: bool

    def context(self) -> ssl.SSLContext:
        try:
            made = ssl.create_default_context(cadata=None if self.ca is None else self.ca.decode("ascii", "ignore"))
        except ssl.SSLError:
            raise ValueError("its certificate authority is not a certificate in PEM form") from None
        # Many clusters' own CAs lack extensions that Python 3.13 has come to insist on; kubectl does not.
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.certificate and self.key:
            self._load_chain(made, self.certificate, self.key)
        if self.insecure:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made

    def _load_chain(self, context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
        # OpenSSL reads them from files only; these are readable by us alone, and gone at once.
        with tempfile.NamedTemporaryFile() as certificate_file, tempfile.NamedTemporaryFile() as key_file:
            for file, content in ((certificate_file, certificate), (key_file, key)):
                file.write(content)
                file.flush()
            try:
                # With a password OpenSSL does not ask the terminal for that of an encrypted key.
                context.load_cert_chain(certificate_file.name, key_file.name, password="")
            except ssl.SSLError as e:
                raise ValueError(f"its client certificate and key cannot be used: {e.reason or e}") from None


class Way:
    """The way to one cluster's API."""

    def __init__(
        self, cluster: ClusterSettings, *, fresh_s: float = FRESH_S, load_timeout_s: float = LOAD_TIMEOUT_S
    ) -> None:
        self._name = cluster.name
        self._fresh_s = fresh_s
        self._load_timeout_s = load_timeout_s
        self._read = _reader(cluster)
        self._lock = asyncio.Lock()
        self._access: Access | None = None
        self._fresh_until = 0.0
        self._tls: tuple[_Trust, ssl.SSLContext] | None = None
        self._plugin: PluginRunner | None = None

    async def access(self) -> Access:
        """Return what requests need; raise Unavailable when the configuration is refused or gives no credentials."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._access is None or now >= self._fresh_until:
                self._access = await self._load(self._access)
                self._fresh_until = now + self._fresh_s
            return self._access

    def distrust(self, access: Access) -> None:
        """Read everything again before the next request: *access* was refused."""
        if self._access is access:
            self._access = None
            self._plugin = None  # a plugin's credentials may be refused long before they expire

    async def _load(self, before: Access | None) -> Access:
        """Return *before* when what it was made from cannot be read now; a 401 says whether it is still good."""
        try:
            async with asyncio.timeout(self._load_timeout_s):
                return await self._made(*await self._read())
        except TimeoutError:
            late = f"its credentials did not come within {self._load_timeout_s:g} s"
            error = Unavailable(f'Cluster "{self._name}": {late}.')
        except (OSError, NoCredentials) as e:
            error = Unavailable(f'Cluster "{self._name}": its configuration cannot be used: {_say(e)}.')
        except ValueError as e:
            raise Unavailable(f'Cluster "{self._name}": its configuration cannot be used: {_say(e)}.') from None
        except yaml.YAMLError as e:
            # Half of a file that is being written, most likely: it says nothing about rights.
            error = Unavailable(f'Cluster "{self._name}": its kubeconfig is not YAML: {_say(e)}.')
        if before is None:
            raise error
        return before

    async def _made(self, cluster: KubeconfigCluster, user: KubeconfigUser) -> Access:
        ca, certificate, key = await asyncio.to_thread(
            lambda: [*map(_content, (cluster.ca, user.certificate, user.key))]
        )
        authorization = await asyncio.to_thread(_authorization, user)
        if user.plugin is not None and not authorization and certificate is None:
            if self._plugin is None or self._plugin.plugin != user.plugin:
                self._plugin = PluginRunner(user.plugin)
            given = await self._plugin.credentials(cluster, ca)
            authorization = _bearer(given.token) if given.token else ""
            certificate, key = given.certificate, given.key
        headers = user.impersonation.headers() if user.impersonation else []
        if authorization:
            headers.append(("Authorization", authorization))
        if cluster.disable_compression:
            headers.append(("Accept-Encoding", "identity"))
        is_tls = cluster.server.scheme == "https"
        return Access(
            base=cluster.server,
            headers=tuple(headers),
            tls=await self._context(_Trust(ca, certificate, key, cluster.insecure)) if is_tls else True,
            server_name=cluster.tls_server_name or None,
            proxy=cluster.proxy or proxy_from(os.environ, cluster.server),
        )

    async def _context(self, trust: _Trust) -> ssl.SSLContext:
        if self._tls is None or self._tls[0] != trust:
            # The same context as long as nothing changed: connections are pooled by it.
            self._tls = trust, await asyncio.to_thread(trust.context)
        return self._tls[1]


Reader = Callable[[], Awaitable[tuple[KubeconfigCluster, KubeconfigUser]]]


def _reader(cluster: ClusterSettings) -> Reader:
    if cluster.kubeconfig is not None:
        return _KubeconfigReader(cluster.kubeconfig, cluster.context).read
    if isinstance(cluster, GivenCluster):
        return lambda: _given(cluster)
    return _in_cluster if cluster.in_cluster else lambda: _from_settings(cluster)


class _KubeconfigReader:
    """Parses a file only when its text has changed: one of many clusters takes seconds."""

    def __init__(self, kubeconfig: Path, context: str | None) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._parsed: tuple[list[tuple[Path, str]], tuple[KubeconfigCluster, KubeconfigUser]] | None = None

    async def read(self) -> tuple[KubeconfigCluster, KubeconfigUser]:
        return await asyncio.to_thread(self._read)

    def _read(self) -> tuple[KubeconfigCluster, KubeconfigUser]:
        files = files_of(self._kubeconfig)
        if len(files) > 1 and not (files := [file for file in files if file.exists()]):
            raise FileNotFoundError(f"none of the files {self._kubeconfig} exists")
        texts = [(file, content_of(file, longest=LONGEST_KUBECONFIG).decode()) for file in files]
        if not any(text.strip() for _, text in texts):
            raise NoCredentials(f"{self._kubeconfig} is empty")  # it is being written, most likely
        if self._parsed is None or self._parsed[0] != texts:
            self._parsed = texts, choose([(file, tree_of(text)) for file, text in texts], self._context)
        return self._parsed[1]


def tree_of(text: str) -> Any:
    """Return what a kubeconfig holds. Raises yaml.YAMLError."""
    if text.lstrip().startswith("{"):
        # JSON may be indented by tabs, which PyYAML does not take.
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - both loaders are safe


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is ten times as fast, where PyYAML has it


def in_cluster(environment: Mapping[str, str], folder: Path) -> tuple[KubeconfigCluster, KubeconfigUser]:
    """Return what a pod knows of its cluster; *folder* is where its service account is mounted."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise ValueError("the gateway does not run in a pod: KUBERNETES_SERVICE_HOST is not set")
    server = URL.build(scheme="https", host=host, port=int(port))
    return KubeconfigCluster(server=server, ca=folder / "ca.crt"), KubeconfigUser(token_file=folder / "token")


async def _in_cluster() -> tuple[KubeconfigCluster, KubeconfigUser]:
    return in_cluster(os.environ, POD_FILES)


async def _given(cluster: GivenCluster) -> tuple[KubeconfigCluster, KubeconfigUser]:
    return choose([(Path(cluster.name), tree_of(cluster.kubeconfig_text))], None)


async def _from_settings(cluster: ClusterSettings) -> tuple[KubeconfigCluster, KubeconfigUser]:
    server = URL((cluster.url or "").rstrip("/"))
    if not server.host:
        raise ValueError(f"{cluster.url!r} is not an http or https URL")
    ca, token = (file and file.expanduser() for file in (cluster.ca_file, cluster.token_file))
    return KubeconfigCluster(server=server, ca=ca), KubeconfigUser(token_file=token)


def _content(pem: Pem) -> bytes | None:
    return content_of(pem) if isinstance(pem, Path) else pem


def _authorization(user: KubeconfigUser) -> str:
    """Return the header's value, or "". A token's file counts more than the token, as long as it can be read."""
    if user.token_file is not None:
        try:
            token = content_of(user.token_file).decode().strip()
        except OSError:
            if not user.token:
                raise
            token = user.token
        if not token:
            raise NoCredentials(f"{user.token_file} is empty")
        return _bearer(token)
    if user.token:
        return _bearer(user.token.strip())
    if user.username:
        return "Basic " + base64.b64encode(f"{user.username}:{user.password}".encode()).decode()
    return ""


def _bearer(token: str) -> str:
    if not (token.isascii() and token.isprintable()):
        raise ValueError("its token is not one line of ASCII, and cannot be sent")
    return f"Bearer {token}"


def _say(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
