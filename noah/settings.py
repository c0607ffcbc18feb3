"""One typed tree of settings, read once from a TOML file; every default stands here with its reason and unit.

An unknown key is an error that names it. Modules get the part they need, as an argument.
"""

import ipaddress
import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from noah.duration import format_duration, parse_duration
from noah.errors import BadSettings
from noah.file_state import content_of

DEFAULT_FILE = Path("config/noah.toml")

LONGEST_SESSION = timedelta(days=7)  # a probe believes no report that would last longer (inpod/liveness.sh)

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name is lower-case letters, digits, '-' and '.', at most 63 of them")
    return text


def _environment(text: str) -> str:
    if not (text.isprintable() and text == text.strip() and 0 < len(text) <= 63):
        raise ValueError("an environment's name is 1 to 63 characters that can be printed")
    if {"", ".", ".."} & {*text.split("/")}:  # core/environment.py says the same of pods' values
        raise ValueError("an environment's name is a part of addresses: '', '.' and '..' cannot be parts of it")
    return text


def _environment_rule(text: str) -> str:
    whose, _, key = text.partition(":")
    prefixes = ("label", "annotation", "namespace-label", "namespace-annotation")
    if text != "namespace" and not (whose in prefixes and key.isprintable() and 0 < len(key) <= 317):
        raise ValueError(f"{text[:80]!r} is not 'namespace' or one of {', '.join(f'{one}:KEY' for one in prefixes)}")
    return text


def _duration(value: object) -> object:
    return parse_duration(str(value)) if isinstance(value, str | int | float) else value


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError("write HOST:PORT, for example 127.0.0.1:7070")
    return text


def _gateway_address(text: str) -> str:
    path = text.removeprefix("unix:")
    if path == text:
        return _address(text)
    # The kernel's limit for such a path is 107 bytes.
    if not path.startswith("/") or len(path.encode()) > 107 or not path.isprintable():
        raise ValueError("write unix:/PATH, with an absolute path of at most 107 bytes")
    return text


def _port_range(text: str) -> str:
    first, dash, last = text.partition("-")
    numbers = first + last
    if not (
        dash and numbers.isascii() and first.isdigit() and last.isdigit() and 1024 <= int(first) <= int(last) < 65536
    ):
        raise ValueError("write FIRST-LAST between 1024 and 65535, for example 20000-20999")
    return text


def _public_url(text: str) -> str:
    example = "write a whole address, for example https://tools.example.com/noah/"
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        raise ValueError(example) from None
    if not usable or url.query or url.fragment or url.username or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", url.path):
        raise ValueError(example)
    return text


def _origin(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.netloc or text != f"{url.scheme}://{url.netloc}" or "@" in text:
        raise ValueError("write an origin, SCHEME://HOST[:PORT] with nothing behind it")
    return text


def _network(text: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        raise ValueError(f"{str(text)[:60]!r} is neither an address nor a network like 10.0.0.0/8") from None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


Name = Annotated[str, AfterValidator(_name)]
EnvironmentName = Annotated[str, AfterValidator(_environment)]
Length = Annotated[timedelta, BeforeValidator(_duration)]
Address = Annotated[str, AfterValidator(_address)]
GatewayAddress = Annotated[str, AfterValidator(_gateway_address)]
PortRange = Annotated[str, AfterValidator(_port_range)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Origin = Annotated[str, AfterValidator(_origin)]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
TcpPort = Annotated[int, Field(ge=1, le=65535)]


def _twice(names: Iterable[str]) -> str | None:
    """Return the first name that comes a second time; there may be tens of thousands."""
    seen = set[str]()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Listener(_Part):
    listen: Address

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])


MOST_PORTS: Final = 65_536


class GatewaySettings(_Listener):
    listen: GatewayAddress = "127.0.0.1:7070"  # or unix:/PATH, for programs of this machine alone
    # The host in what people copy into their IDE, if debug ports are reached from other machines.
    advertised_host: str = "127.0.0.1"
    debug_ports: PortRange = "20000-20999"
    # Who reaches a debug port runs code in the JVM: it asks for an address, and for no login. So the ports of a
    # gateway beyond loopback are on its own loopback (where `ssh -L` leads) unless this is set.
    debug_ports_beyond_loopback: bool = False
    # Whether debuggers may come to these ports at all; without them, by `noah connect` only.
    plain_ports: bool = True
    # How long a JVM is held for a laptop whose line was lost: while it runs, and while it is suspended (a laptop that
    # sleeps for some minutes). A session's pause budget may end that earlier.
    line_held: Length = timedelta(seconds=45)
    line_held_suspended: Length = timedelta(minutes=10)
    database: str = "sqlite:///noah.db"
    # With PostgreSQL, several gateways may serve the database. Where the others reach this one; none: at the host of
    # listen and any free port.
    peer_listen: Address | None = None
    # The host that they connect to; none: that of peer_listen or, where that is all addresses, the one from which this
    # machine reaches the database.
    peer_address: str | None = None
    # How long a gateway that is to stop, by SIGTERM, stays for the debuggers that it has, if there is another one.
    drain_for: Length = timedelta(hours=12)
    # Where browsers find the gateway behind a reverse proxy: SCHEME://HOST[:PORT]/PATH/; none: at listen.
    public_url: PublicUrl | None = None
    # Users of the gateway's machine, by name, whose programs may connect to debug ports from it, as an sshd does that
    # forwards for them; "*" is all. The gateway's own user, root and a session's owner, if of this machine, always may.
    debug_port_users: tuple[str, ...] = ()
    # Networks of the reverse proxies that are believed when they say who asks, in X-Forwarded-For or Forwarded.
    trusted_proxies: tuple[Network, ...] = ()
    # The gateway's own TLS: a certificate with its chain and its key, PEM, read again when they change.
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    # Networks from which plain HTTP is taken beyond loopback, since it crosses no network there: the bridge between a
    # machine and its containers. The trusted proxies are believed to do TLS themselves.
    plain_http_from: tuple[Network, ...] = ()

    @property
    def socket_path(self) -> Path | None:
        """Return the path of the UNIX socket, if that is where the gateway listens."""
        return Path(self.listen.removeprefix("unix:")) if self.listen.startswith("unix:") else None

    @property
    def host(self) -> str:
        return super().host if self.socket_path is None else "127.0.0.1"

    @property
    def is_on_loopback(self) -> bool:
        return _is_loopback(self.host)

    @property
    def is_own_machines(self) -> bool:
        """True if nobody but programs of this machine can ask, for all that the settings say."""
        return self.is_on_loopback and self.public_url is None and not self.trusted_proxies

    @property
    def are_debug_ports_near(self) -> bool:
        """True if debug ports are reached from this machine only."""
        return self.is_on_loopback or not self.debug_ports_beyond_loopback

    @property
    def debug_host(self) -> str:
        """Return the address at which debug ports are bound."""
        return self.host if self.is_on_loopback or self.debug_ports_beyond_loopback else "127.0.0.1"

    @property
    def shown_debug_host(self) -> str:
        """Return the host in what people copy into their IDE."""
        return "127.0.0.1" if self.are_debug_ports_near and not self.is_on_loopback else self.advertised_host

    @property
    def peer_host_and_port(self) -> tuple[str, int]:
        """Return where other gateways are listened for; port 0: any that is free."""
        if self.peer_listen is None:
            return self.host, 0
        host, _, port = self.peer_listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def ports(self) -> range:
        """Return the numbers that sessions get: where no ports are opened, they are not limited by those that are."""
        first, _, last = self.debug_ports.partition("-")
        return range(int(first), int(last) + 1 if self.plain_ports else MOST_PORTS)

    @property
    def public_origin(self) -> str | None:
        """Return SCHEME://HOST[:PORT], as a browser writes it into the Origin header."""
        if self.public_url is None:
            return None
        url = urlsplit(self.public_url)
        default = {"http": 80, "https": 443}[url.scheme]
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        return f"{url.scheme}://{host}" + (f":{url.port}" if url.port not in (None, default) else "")

    @property
    def public_path(self) -> str:
        """Return the path without a slash at its end: "/noah", or "" if the site is at the root."""
        return urlsplit(self.public_url or "").path.rstrip("/")

    @model_validator(mode="after")
    def _keep_credentials_off_the_wire(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.socket_path is not None and self.tls_certificate is not None:
            raise ValueError("a UNIX socket crosses no network: leave out tls_certificate and tls_key")
        if not (self.is_on_loopback or self.tls_certificate or self.trusted_proxies or self.plain_http_from):
            raise ValueError(
                f"listen = {self.listen!r} is reachable from other machines, and logins do not go over plain HTTP: set "
                "tls_certificate and tls_key, or trusted_proxies if a reverse proxy in front does TLS"
            )
        return self


class SessionSettings(_Part):
    default_length: Length = timedelta(hours=2)
    # A working day with a margin; a session can be extended.
    longest: Length = timedelta(hours=12)
    # From its beginning, however often it is extended.
    longest_in_all: Length = timedelta(hours=72)
    # How long the whole VM may stand still before the gateway resumes it; none: as long as the developer likes.
    pause_budget: Length | None = None

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if self.longest > self.longest_in_all:
            longest, in_all = format_duration(self.longest), format_duration(self.longest_in_all)
            raise ValueError(f"longest ({longest}) is longer than longest_in_all ({in_all})")
        if self.default_length > self.longest:
            default, longest = format_duration(self.default_length), format_duration(self.longest)
            raise ValueError(f"default_length ({default}) is longer than longest ({longest})")
        if self.longest > LONGEST_SESSION:
            raise ValueError(f"longest is at most {format_duration(LONGEST_SESSION)}")
        return self


class ClusterOptions(_Part):
    """The settings of a cluster beside the way to its API."""

    # pod: the gateway reaches pod addresses. api-server: it does not; each connection is an exec stream.
    reach: Literal["pod", "api-server"] = "pod"
    namespaces: tuple[str, ...] = ()  # none: all
    selector: str = ""  # a label selector: pods that it leaves out do not exist for the gateway
    app_label: str = "app"
    # What the environment of a pod is called: by its namespace ("namespace"), by the value of a label or an annotation
    # of the pod ("label:KEY", "annotation:KEY") or of its namespace ("namespace-label:KEY", "namespace-annotation:KEY",
    # for which namespaces are watched, their metadata only). Pods without that value are in their namespace's.
    environment: Annotated[str, AfterValidator(_environment_rule)] = "namespace"
    jdwp_port: TcpPort = 50005  # where a JVM is expected to listen unless its options or annotations say otherwise
    # Networks of the pods' addresses, for reach = "pod"; none: any that a pod can have, but none of this machine.
    # "nodes": those that Kubernetes gave to each pod's node (spec.podCIDRs), where the network plugin goes by these.
    pod_networks: Literal["nodes"] | tuple[Network, ...] = ()
    # An image with sh, socat and curl (scripts/tools-image builds one), for an ephemeral container beside a JVM whose
    # image has no shell; none: nothing is put into pods.
    tools_image: str | None = None
    # Where the pods see the gateway come from, for socat's range=; none: the address that the kernel would use.
    gateway_range: str | None = None
    # What the cluster puts before the names of people and groups of an OIDC provider (--oidc-username-prefix and
    # --oidc-groups-prefix of its API server), for the reviews of what they may do there.
    user_prefix: str = ""
    group_prefix: str = ""
    # As whom commands are run in pods: the gateway itself, or the person whose session it is, by impersonation, so that
    # the cluster's audit log and its admission see them. Whom the cluster cannot know is always served as the gateway.
    exec_as: Literal["gateway", "user"] = "gateway"


class ClusterSettings(ClusterOptions):
    """One Kubernetes API: a kubeconfig's context, the pod that the gateway runs in, or a URL with a token."""

    name: Name
    kubeconfig: Path | None = None
    context: str | None = None
    in_cluster: bool = False
    url: str | None = None  # may have a path, as the proxies of Rancher and KubeSphere have
    token_file: Path | None = None
    ca_file: Path | None = None
    # The API server that a kubeconfig was seen to name: one that names another by now is another cluster's.
    _server: str | None = PrivateAttr(None)

    def at(self, server: str) -> Self:
        """Return the settings of the cluster that its kubeconfig leads to *server*; others are not equal to them."""
        there = self.model_copy()
        there._server = server
        return there

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        ways = [self.kubeconfig is not None, self.in_cluster, self.url is not None]
        if sum(ways) != 1:
            raise ValueError(f"cluster {self.name!r} needs exactly one of kubeconfig, in_cluster and url")
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise ValueError(f"cluster {self.name!r}: url begins with https://")
        if self.url is None and (self.token_file or self.ca_file):
            raise ValueError(f"cluster {self.name!r}: token_file and ca_file go with url")
        if self.context is not None and self.kubeconfig is None:
            raise ValueError(f"cluster {self.name!r}: context goes with kubeconfig")
        return self


class GivenCluster(ClusterSettings):
    """A cluster whose kubeconfig is not in a file: a Secret has it. It stands in no configuration."""

    kubeconfig_text: Annotated[str, Field(repr=False)]  # with credentials

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        return self


class ClusterFolder(ClusterOptions):
    """A folder of kubeconfigs, each of one cluster: its current context, called as the file is without its ending."""

    folder: Path


class ClusterSecrets(ClusterOptions):
    """Secrets that declare clusters, as those of Argo CD do."""

    cluster: Name  # one of [[clusters]], which has the Secrets
    namespace: Annotated[str, Field(min_length=1)]
    label: Annotated[str, Field(min_length=1)] = "debug.noah/cluster=true"  # a label selector


class Local(_Part):
    """Any JVM of this machine."""

    name: Name
    environment: EnvironmentName = "local"
    jdwp_port: TcpPort
    checkurl: str | None = None


class HostApp(_Part):
    """One JVM on a host: how it is restarted, and where its options are. Without either, it has to listen already."""

    name: Name
    # A systemd unit, or command lines for the user's shell on the host.
    unit: str | None = None
    restart: str | None = None
    stop: str | None = None
    start: str | None = None
    # How long a restart may take until checkurl says 200; then the edit is taken back.
    restart_takes: Length = timedelta(minutes=2)
    options_file: str | None = None  # what the start script or the unit reads: lines of VARIABLE="..."
    options_variable: str = "JAVA_OPTS"
    checkurl: str | None = None  # as the host itself asks it
    jdwp_port: TcpPort = 50005

    @model_validator(mode="after")
    def _one_way_to_restart(self) -> Self:
        if (self.start is None) != (self.stop is None):
            raise ValueError(f"app {self.name!r}: start and stop go together")
        if sum(way is not None for way in (self.unit, self.restart, self.start)) > 1:
            raise ValueError(f"app {self.name!r} needs only one of unit, restart and start with stop")
        if self.options_file is not None and not self.options_file.startswith("/"):
            raise ValueError(f"app {self.name!r}: options_file is a whole path")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.options_variable):
            raise ValueError(f"app {self.name!r}: options_variable is not the name of a variable")
        return self

    @property
    def restart_command(self) -> str | None:
        if self.unit is not None:
            return f"systemctl restart {shlex.quote(self.unit)}"
        return self.restart if self.start is None else f"{self.stop}\n{self.start}"


class Host(_Part):
    """A machine with apps outside of Kubernetes, reached by SSH."""

    name: Name
    environment: EnvironmentName = "hosts"  # of its apps; one that pods have too joins them
    address: str
    port: TcpPort = 22
    user: str
    key: Path  # a private key without a passphrase
    host_key: str  # pinned: a line as in the host's /etc/ssh/ssh_host_ed25519_key.pub
    become: tuple[str, ...] = ()  # ["sudo", "-n"], where the user alone may not edit the file or restart the app
    # At a session's end, what becomes of the flags that it brought: they stay; the file is put back and the app
    # restarted; or the file is put back, and the app's next restart ends them.
    ends: Literal["keep", "revert", "revert-at-next-restart"] = "revert-at-next-restart"
    apps: tuple[HostApp, ...]

    @model_validator(mode="after")
    def _apps_are_unique(self) -> Self:
        if (name := _twice(app.name for app in self.apps)) is not None:
            raise ValueError(f"host {self.name!r}: the app {name!r} stands there twice")
        return self


class WebhookSettings(_Listener):
    """The server that API servers ask what to put into new pods. Its certificates are the gateway's own."""

    names: Annotated[tuple[str, ...], Field(min_length=1)]  # by which API servers reach it: DNS names and addresses
    folder: Path = Path("noah-webhook")  # keeps the authority that the API servers trust
    tools_image: str | None = None  # for the sidecar of an app whose image has no shell


class OidcSettings(_Part):
    """One OpenID Connect provider at which people log in."""

    name: Name  # on the page, and in the address that the provider sends people back to: /login/back/NAME
    issuer: str  # exactly as the provider writes it
    client_id: str
    client_secret_file: Path | None = None  # none: a public client
    # Beside openid; none: those of profile, email, groups and offline_access that the provider has.
    scopes: tuple[str, ...] | None = None
    # What the address of the login says beside what it has to. Unless it is set, prompt = "consent" where
    # offline_access is asked for, as the standard wants it; many providers give refresh tokens without, and some want
    # access_type = "offline".
    authorization_parameters: dict[str, str] | None = None
    # Claims that say who somebody is. Only "sub" is surely never given to anybody else.
    subject_claim: str = "sub"
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"  # or a path: realm_access.roles
    # For whom signed tokens may be that other clients send to the API, beside client_id.
    audiences: tuple[str, ...] = ()
    # How long it is believed what the provider has said of somebody; then it is asked again.
    recheck_every: Length = timedelta(minutes=5)
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _is_reached_by_tls(self) -> Self:
        url = urlsplit(self.issuer)
        if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.hostname or "")):
            raise ValueError(f"provider {self.name!r}: issuer begins with https://")
        return self


class KubernetesLoginSettings(_Part):
    """A cluster whose word is believed for whose token it is."""

    cluster: Name  # one of [[clusters]]
    # For whom a token has to be: `kubectl create token ACCOUNT --audience noah` makes one. What a kubeconfig yields is
    # for the cluster's API server; with that audience in here the gateway gets tokens with which it could act there.
    audiences: Annotated[tuple[str, ...], Field(min_length=1)] = ("noah",)
    # Of the cluster's ServiceAccount tokens; needed to tell several clusters apart when a client names none.
    issuer: str | None = None


class ProxyLoginSettings(_Part):
    """A reverse proxy that logs people in and says who they are in headers."""

    # From where it is believed, the secret that it sends in the header Noah-Proxy-Secret, and the names of the client
    # certificates that it shows at the gateway's own TLS: at least one of these, and all that are set.
    networks: tuple[Network, ...] = ()
    secret_file: Path | None = None
    client_names: tuple[str, ...] = ()  # a common name, or a DNS name of the certificate
    client_ca: Path | None = None  # PEM: who signs these certificates
    user_header: str = "X-Forwarded-User"
    name_header: str = "X-Forwarded-Preferred-Username"
    groups_header: str = "X-Forwarded-Groups"  # with commas between them

    @model_validator(mode="after")
    def _is_known_by_something(self) -> Self:
        if (self.client_ca is None) != (not self.client_names):
            raise ValueError("client_ca and client_names go together: a CA may sign more than proxies")
        has_proof = self.secret_file is not None or self.client_ca is not None
        if not self.networks and not has_proof:
            raise ValueError("a proxy is known by its networks, a secret_file, or a client_ca with client_names")
        if not has_proof and any(network.is_loopback for network in self.networks):
            raise ValueError(
                "every user of this machine is on loopback: a proxy there needs a secret_file or a client_ca as well"
            )
        return self


def _area_pattern(text: str) -> str:
    kind, *rest = text.split("/")
    parts = {"pod": 2, "host": 2, "local": 1}.get(kind)
    if text != "*" and (len(rest) != parts or not all(rest)):
        raise ValueError(f"{text[:60]!r} is not a pattern: write pod/CLUSTER/NAMESPACE, host/HOST/APP, local/NAME or *")
    return text


class GrantSettings(_Part):
    """A list of rights that some people have, beside what the clusters' own RBAC allows them."""

    rights: Annotated[
        tuple[Literal["see", "read_logs", "debug", "free", "operate", "read_trail"], ...], Field(min_length=1)
    ]
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    # Patterns, with * and ? in each part: pod/CLUSTER/NAMESPACE, host/HOST/APP, local/NAME; "*": everything.
    targets: tuple[Annotated[str, AfterValidator(_area_pattern)], ...] = ("*",)
    # Patterns of names of environments, for what is not in a cluster: hosts and JVMs of the gateway's machine that are
    # in one of these; pods are not in the grant then. None: whatever the environment.
    environments: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_somebodys(self) -> Self:
        if not (self.users or self.groups):
            raise ValueError("a grant names users or groups")
        if self.environments and {"operate", "read_trail"} & {*self.rights}:
            raise ValueError("operate and read_trail are rights on the whole gateway: no environments go with them")
        return self


class TrailSettings(_Part):
    """The part about the trail, which tells what people and debuggers did."""

    keep: Length = timedelta(days=365)
    # A file that every row is appended to as a line of JSON; "-": stdout; none: the database only.
    lines: str = ""


class PortalSettings(_Part):
    """A portal that may act for people: it names them in assertions that it signs, or exchanges their tokens."""

    name: Name  # the assertions' issuer, and the client_id
    # How it proves itself: by signatures with the key of this PEM file, by a secret for token exchange, or by either.
    public_key_file: Path | None = None
    secret_file: Path | None = None
    # For whom the tokens of people are, at their provider, that it may exchange, beside the gateway's own client_id.
    audiences: tuple[str, ...] = ()
    people_of: Name  # the provider in [[access.oidc]] whose people it names
    # What the portal may have done for somebody at most, if they themselves may.
    rights: Annotated[tuple[Literal["see", "read_logs", "debug", "free"], ...], Field(min_length=1)] = ("see", "debug")

    @model_validator(mode="after")
    def _proves_itself(self) -> Self:
        if self.public_key_file is None and self.secret_file is None:
            raise ValueError("a portal proves itself by a public_key_file, a secret_file, or both")
        return self


class AccessSettings(_Part):
    """The part that says who may come in."""

    # Hashes of the tokens that `noah token` makes.
    tokens: Path = Path("noah-tokens.json")
    # Users of the gateway's machine, beside its own user, who may use a gateway on loopback without a login if no proxy
    # is in front of it: names or uids. They may do everything.
    local_users: tuple[str, ...] = ()
    oidc: tuple[OidcSettings, ...] = ()
    kubernetes: tuple[KubernetesLoginSettings, ...] = ()
    proxy: ProxyLoginSettings | None = None
    portals: tuple[PortalSettings, ...] = ()
    # Of pages of other sites: those that may call the API with a token, and those that may show our pages in a frame.
    origins: tuple[Origin, ...] = ()
    frame_ancestors: tuple[Origin, ...] = ()
    # How long somebody stays logged in: without using it, and at all.
    login_idle: Length = timedelta(hours=12)
    login_longest: Length = timedelta(days=7)
    # A session's `allow` lies within these, or is the address that its owner asks from.
    allow_at_most: tuple[Network, ...] = tuple(
        ipaddress.ip_network(one)
        for one in (
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
        )
    )
    # Of one person: sessions at a time, and requests.
    sessions_per_person: Annotated[int, Field(ge=1)] = 20
    requests_per_minute: Annotated[int, Field(ge=60)] = 1200
    # Those of the namespaces kube-* in which something may be debugged at all.
    system_namespaces: tuple[str, ...] = ()


class InventorySettings(_Part):
    """Hosts from an HTTP API, as hosts_command prints them: a list, or {"hosts": [...], "next": URL}."""

    url: str
    token_file: Path | None = None  # sent as a bearer token; read each time
    ca_file: Path | None = None
    every: Length = timedelta(minutes=10)
    most_hosts: Annotated[int, Field(ge=1)] = 10_000

    @model_validator(mode="after")
    def _is_reached_by_tls(self) -> Self:
        url = urlsplit(self.url)
        url.port  # noqa: B018 - raises ValueError if it is not a port
        if not url.hostname or (url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.hostname))):
            raise ValueError("inventory: url begins with https://")
        if self.every < timedelta(seconds=1):
            raise ValueError("inventory: every is at least 1s")
        return self


class Settings(_Part):
    gateway: GatewaySettings = GatewaySettings()
    sessions: SessionSettings = SessionSettings()
    clusters: tuple[ClusterSettings, ...] = ()
    cluster_folders: tuple[ClusterFolder, ...] = ()
    cluster_secrets: tuple[ClusterSecrets, ...] = ()
    webhook: WebhookSettings | None = None
    access: AccessSettings = AccessSettings()
    grants: tuple[GrantSettings, ...] = ()
    trail: TrailSettings = TrailSettings()
    local: tuple[Local, ...] = ()
    # The first host that is wrong is named: of thousands, all may be.
    hosts: Annotated[tuple[Host, ...], FailFast()] = ()
    # Prints more of them, as JSON with the same keys, for people who have a CMDB. It runs again after each
    # hosts_command_every.
    hosts_command: tuple[str, ...] = ()
    hosts_command_every: Length = timedelta(minutes=10)
    inventory: tuple[InventorySettings, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        kinds: Mapping[str, tuple[Any, ...]] = {
            "clusters": self.clusters,
            "local": self.local,
            "hosts": self.hosts,
            "access.oidc": self.access.oidc,
            "access.portals": self.access.portals,
        }
        for kind, parts in kinds.items():
            if (name := _twice(part.name for part in parts)) is not None:
                raise ValueError(f"{kind}: the name {name!r} stands there twice")
        return self

    @model_validator(mode="after")
    def _those_who_vouch_are_there(self) -> Self:
        known = [cluster.name for cluster in self.clusters]
        providers = [one.name for one in self.access.oidc]
        for portal in self.access.portals:
            if portal.people_of not in providers:
                raise ValueError(f"access.portals: {portal.name!r} has people_of a provider that is not there")
        if self.access.proxy and self.access.proxy.client_ca and not self.gateway.tls_certificate:
            raise ValueError("access.proxy: client_ca needs the gateway's own TLS: set tls_certificate and tls_key")
        if self.hosts_command_every < timedelta(seconds=1):
            raise ValueError("hosts_command_every is at least 1s")
        if (url := _twice(one.url for one in self.inventory)) is not None:
            raise ValueError(f"inventory: the url {url!r} stands there twice")
        for secrets in self.cluster_secrets:
            if secrets.cluster not in known:
                raise ValueError(f"cluster_secrets: there is no cluster {secrets.cluster!r} in [[clusters]]")
        vouching = [one.cluster for one in self.access.kubernetes]
        for name in vouching:
            if name not in known and not (self.cluster_folders or self.cluster_secrets):
                raise ValueError(f"access.kubernetes: there is no cluster {name!r} in [[clusters]]")
            if vouching.count(name) > 1:
                raise ValueError(f"access.kubernetes: the cluster {name!r} stands there twice")
        return self


def settings_file(given: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    return Path(given or environ.get("NOAH_CONFIG") or DEFAULT_FILE)


LONGEST = 16 << 20  # bytes of a configuration; a host takes some 300
LONGEST_KEY = 200  # characters of one that is shown
MOST_SAID = 10  # errors: each of thousands of hosts may have one


def read_settings(file: Path) -> Settings:
    """Return the settings. BadSettings names the file, and the key or the line that is wrong."""
    try:
        tree: dict[str, Any] = tomllib.loads(content_of(file, longest=LONGEST).decode())
    except (OSError, UnicodeDecodeError) as e:
        raise BadSettings(f"The configuration {file} cannot be read: {getattr(e, 'strerror', None) or e}.") from None
    except tomllib.TOMLDecodeError as e:
        raise BadSettings(f"The configuration {file} is not TOML: {e}.") from None
    except RecursionError:
        raise BadSettings(f"The configuration {file} is nested too deeply.") from None
    return parse_settings(tree, origin=str(file))


def parse_settings(tree: Mapping[str, Any], *, origin: str) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as e:
        wrong = [_say(error) for error in e.errors()[:MOST_SAID]]
        more = e.error_count() - len(wrong)
        raise BadSettings(f"{origin}: " + "; ".join([*wrong, f"and {more} more"] if more else wrong)) from None


def _say(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {key[:LONGEST_KEY]!r}"
    if error["type"] == "tuple_type" and isinstance(error["input"], dict):
        return f"{key}: there may be several, so write [[{key}]] with two brackets"
    reason = error["msg"].removeprefix("Value error, ")
    return f"{key}: {reason}" if key else reason
