"""How to reach one Kubernetes API and as whom: read from a kubeconfig, from the pod that we run in, or from files.

What is read is used for a minute and then read again, since tokens rotate, certificates are renewed and exec plugins
give credentials for a while. The environment's HTTPS_PROXY is not looked at: a cluster's proxy is its kubeconfig's
proxy-url.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config
from kubernetes_asyncio.config.kube_config import KubeConfigLoader
from yarl import URL

from noah.errors import Unavailable
from noah.settings import ClusterSettings

FRESH = 60.0  # seconds; the kubelet renews a token when a fifth of its life is left, which is minutes at least
PLUGIN = 30.0  # seconds for an exec plugin or an identity provider; the clouds' need 1 to 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    base: URL  # may have a path, as behind the proxies of Rancher and KubeSphere
    authorization: str | None
    tls: ssl.SSLContext | bool
    server_name: str | None  # what the certificate must say instead of the URL's host
    proxy: URL | None


@dataclass(frozen=True, slots=True)
class _Trust:
    """What a TLS context is made from. A context is made anew when one of the files has changed."""

    ca: str | None
    certificate: str | None
    key: str | None
    verify: bool

    def stamp(self) -> tuple[float, ...]:
        return tuple(Path(file).stat().st_mtime for file in (self.ca, self.certificate, self.key) if file)

    def context(self) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=self.ca)
        # Many clusters' own CAs lack extensions that Python 3.13 has come to insist on; kubectl does not.
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.certificate:
            made.load_cert_chain(self.certificate, self.key)
        if not self.verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made


class Way:
    """The way to one cluster's API."""

    def __init__(self, cluster: ClusterSettings) -> None:
        self._name = cluster.name
        self._cluster = cluster
        self._read = _reader(cluster)
        self._lock = asyncio.Lock()
        self._access: Access | None = None
        self._fresh_until = 0.0
        self._tls: tuple[_Trust, tuple[float, ...], ssl.SSLContext] | None = None

    async def access(self) -> Access:
        """Unavailable, with the reason, when the configuration cannot be read or gives no credentials."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._access is None:
                self._access = await self._load()
                self._fresh_until = now + FRESH
            elif now >= self._fresh_until:
                # What worked a minute ago is tried on when it cannot be read anew; if it is no good, a 401 says so.
                with contextlib.suppress(Unavailable):
                    self._access = await self._load()
                self._fresh_until = now + FRESH
            return self._access

    def distrust(self, access: Access) -> None:
        """*access* was refused: read everything again before the next request."""
        if self._access is access:
            self._access = None
            self._read = _reader(self._cluster)  # a plugin's credentials may be refused long before they expire

    async def _load(self) -> Access:
        try:
            async with asyncio.timeout(PLUGIN):
                return await self._made(await self._read())
        except TimeoutError:
            raise Unavailable(f'Cluster "{self._name}": its credentials did not come within {PLUGIN:g} s.') from None
        except (ConfigException, OSError, ValueError, LookupError, TypeError, AssertionError, AttributeError) as e:
            # The last three are how kubernetes_asyncio says that a kubeconfig is not shaped like one.
            raise Unavailable(f'Cluster "{self._name}": its configuration cannot be used: {_say(e)}.') from None
        except yaml.YAMLError as e:
            raise Unavailable(
                f'Cluster "{self._name}": its kubeconfig is not YAML: {" ".join(str(e).split())}.'
            ) from None

    async def _made(self, read: Configuration) -> Access:
        base = URL(str(read.host).rstrip("/"))
        if base.scheme not in ("http", "https") or not base.host:
            raise ValueError(f"{read.host!r} is no http or https URL")
        proxy = URL(read.proxy) if read.proxy else None
        if proxy is not None and proxy.scheme not in ("http", "https"):
            raise ValueError(f"proxy-url has to be http or https, and is {read.proxy!r}")
        token = read.api_key.get("BearerToken")
        return Access(
            base=base,
            authorization=" ".join(token.split()) if token else None,
            tls=True if base.scheme == "http" else await self._context(read),
            server_name=read.tls_server_name,
            proxy=proxy,
        )

    async def _context(self, read: Configuration) -> ssl.SSLContext:
        trust = _Trust(read.ssl_ca_cert, read.cert_file, read.key_file, read.verify_ssl)
        stamp = trust.stamp()
        if self._tls is None or self._tls[:2] != (trust, stamp):
            # The same context as long as nothing changed: connections are pooled by it.
            self._tls = trust, stamp, await asyncio.to_thread(trust.context)
        return self._tls[2]


def _reader(cluster: ClusterSettings) -> Callable[[], Awaitable[Configuration]]:
    if cluster.kubeconfig is not None:
        return _Kubeconfig(cluster.kubeconfig.expanduser(), cluster.context).read
    if cluster.in_cluster:
        return _in_cluster
    return lambda: _from_files(cluster)


class _Kubeconfig:
    """Keeps its loader, which knows when a plugin's credentials expire and what an identity provider last gave."""

    def __init__(self, file: Path, context: str | None) -> None:
        self._file = file
        self._context = context
        self._loader: tuple[str, KubeConfigLoader] | None = None

    async def read(self) -> Configuration:
        text = await asyncio.to_thread(self._file.read_text)
        if self._loader is None or self._loader[0] != text:
            tree = await asyncio.to_thread(yaml.safe_load, text)
            self._loader = text, KubeConfigLoader(tree, self._context, config_base_path=str(self._file.parent))
        read = Configuration()
        await self._loader[1].load_and_set(read)
        return read


async def _in_cluster() -> Configuration:
    read = Configuration()
    load_incluster_config(client_configuration=read, try_refresh_token=False)  # type: ignore[no-untyped-call]
    return read


async def _from_files(cluster: ClusterSettings) -> Configuration:
    read = Configuration()
    read.host = cluster.url or ""
    read.ssl_ca_cert = str(cluster.ca_file.expanduser()) if cluster.ca_file else None
    if cluster.token_file:
        token = (await asyncio.to_thread(cluster.token_file.expanduser().read_text)).strip()
        if not token:
            raise ValueError(f"{cluster.token_file} is empty")
        read.api_key["BearerToken"] = f"Bearer {token}"
    return read


def _say(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()).rstrip(".") or "it is not shaped like a kubeconfig"
