"""A kubeconfig, read as client-go reads it: files merged, a context chosen, each field checked for what it may hold.

A field that client-go reads is kept, or the file is refused with the field's name. So is a field of a user that
client-go does not know: it may have been meant to limit rights. Nothing is opened here but what the caller has read.
"""

import base64
import binascii
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yarl import URL

EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
EXEC_EXTENSION = "client.authentication.k8s.io/exec"  # of a cluster: what its plugins get as their configuration
# RFC 9110's token characters: all others of the name of an extra are percent-encoded in its header's name.
_TOKEN = frozenset("!#$&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

Pem = bytes | Path | None  # the content, or where it is


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeconfigCluster:
    server: URL
    tls_server_name: str = ""
    insecure: bool = False
    ca: Pem = None
    proxy: URL | None = None
    disable_compression: bool = False
    exec_config: Any = None


@dataclass(frozen=True, slots=True)
class Impersonation:
    """The user that requests act as, and what else is claimed of that user."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def headers(self) -> list[tuple[str, str]]:
        headers = [("Impersonate-User", self.user)]
        if self.uid:
            headers.append(("Impersonate-Uid", self.uid))
        headers += [("Impersonate-Group", group) for group in self.groups]
        headers += [(f"Impersonate-Extra-{_escaped(key)}", value) for key, values in self.extra for value in values]
        return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialPlugin:
    """A command that prints credentials."""

    command: str
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    api_version: str
    install_hint: str
    provide_cluster_info: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeconfigUser:
    certificate: Pem = None
    key: Pem = None
    token: str = ""
    token_file: Path | None = None
    impersonation: Impersonation | None = None
    username: str = ""
    password: str = ""
    plugin: CredentialPlugin | None = None


def files_of(kubeconfig: Path) -> list[Path]:
    """The files that *kubeconfig* names: one, or several as in the variable KUBECONFIG."""
    if (one := kubeconfig.expanduser()).exists():
        return [one]
    return list(dict.fromkeys(Path(part).expanduser() for part in str(kubeconfig).split(os.pathsep) if part))


def choose(files: Sequence[tuple[Path, Any]], context: str | None) -> tuple[KubeconfigCluster, KubeconfigUser]:
    """Merge *files*, each with its tree, and return what *context*, or the current one, names.

    The first file that names a cluster, a user, a context, or the current context wins; no entry is made of two.
    """
    trees = [_Fields(tree, f"kubeconfig {file}", file.parent) for file, tree in files]
    for tree in trees:
        if tree.text("apiVersion") not in ("", "v1") or tree.text("kind") not in ("", "Config"):
            raise ValueError(f"{tree.where} is not of kind Config and apiVersion v1")
    name = context or next((current for tree in trees if (current := tree.text("current-context"))), "")
    if not name:
        raise ValueError("the kubeconfig has no current-context")
    chosen = _named(trees, "contexts", "context", name)
    cluster_name, user_name = chosen.text("cluster"), chosen.text("user")
    if not cluster_name:
        raise ValueError(f"{chosen.where} names no cluster")
    cluster = _cluster(_named(trees, "clusters", "cluster", cluster_name))
    user = _user(_named(trees, "users", "user", user_name)) if user_name else KubeconfigUser()
    if cluster.server.scheme == "http":
        # As client-go: no credentials over a connection that anybody can read.
        user = KubeconfigUser(impersonation=user.impersonation)
    return cluster, user


def _cluster(fields: "_Fields") -> KubeconfigCluster:
    server = URL(str(URL(fields.text("server")).with_query(None).with_fragment(None)).rstrip("/"))
    if server.scheme not in ("http", "https") or not server.host or server.user or server.password:
        raise ValueError(f'"server" of {fields.where} is not an http or https URL without credentials')
    proxy = URL(fields.text("proxy-url")) if fields.text("proxy-url") else None
    if proxy is not None and (proxy.scheme not in ("http", "https", "socks5") or not proxy.host):
        raise ValueError(f'"proxy-url" of {fields.where} is not an http, https or socks5 URL')
    cluster = KubeconfigCluster(
        server=server,
        tls_server_name=fields.text("tls-server-name"),
        insecure=fields.flag("insecure-skip-tls-verify"),
        ca=fields.pem("certificate-authority"),
        proxy=proxy,
        disable_compression=fields.flag("disable-compression"),
        exec_config=next(
            (one.value("extension") for one in fields.objects("extensions") if one.text("name") == EXEC_EXTENSION), None
        ),
    )
    if cluster.insecure and cluster.ca is not None and server.scheme == "https":
        raise ValueError(
            f'{fields.where} has both "insecure-skip-tls-verify" and a certificate authority: remove one of them'
        )
    return cluster


def _user(fields: "_Fields") -> KubeconfigUser:
    if fields.value("auth-provider") is not None:
        raise ValueError(f'"auth-provider" of {fields.where} is not supported: use an exec plugin or a token')
    user = KubeconfigUser(
        certificate=fields.pem("client-certificate"),
        key=fields.pem("client-key"),
        token=fields.text("token"),
        token_file=fields.path("tokenFile"),
        impersonation=_impersonation(fields),
        username=fields.text("username"),
        password=fields.text("password"),
        plugin=_plugin(fields.fields("exec")) if fields.value("exec") is not None else None,
    )
    if (user.username or user.password) and (user.token or user.token_file):
        raise ValueError(f'{fields.where} has both a token and "username" or "password": remove one of them')
    if (user.certificate is None) != (user.key is None):
        raise ValueError(f'{fields.where} has only one of "client-certificate" and "client-key"')
    if unknown := fields.unread() - {"extensions"}:
        raise ValueError(f"{fields.where} has a field that is not understood: {', '.join(sorted(unknown))}")
    return user


def _impersonation(fields: "_Fields") -> Impersonation | None:
    extra = fields.fields("as-user-extra")
    found = Impersonation(
        fields.text("as"),
        fields.text("as-uid"),
        fields.texts("as-groups"),
        tuple((key, extra.texts(key)) for key in extra.names()),
    )
    if not found.user and (found.uid or found.groups or found.extra):
        raise ValueError(f'{fields.where} has "as-uid", "as-groups" or "as-user-extra" without "as"')
    for header, value in found.headers():
        if not value.isprintable():
            raise ValueError(f'"as" of {fields.where} does not fit into a header: {header} has a control character')
    return found if found.user else None


def _plugin(fields: "_Fields") -> CredentialPlugin:
    command, version = fields.text("command"), fields.text("apiVersion")
    if not command:
        raise ValueError(f'{fields.where} has no "command"')
    if version not in EXEC_VERSIONS:
        raise ValueError(f'"apiVersion" of {fields.where} is {version!r} and not {" or ".join(EXEC_VERSIONS)}')
    mode = fields.text("interactiveMode") or ("IfAvailable" if version.endswith("v1beta1") else "")
    if mode == "Always":
        raise ValueError(f'"interactiveMode" of {fields.where} is Always, and the gateway has no terminal')
    if mode not in ("Never", "IfAvailable"):
        raise ValueError(f'"interactiveMode" of {fields.where} is {mode!r} and not Never or IfAvailable')
    plugin = CredentialPlugin(
        # A bare name is looked up in PATH, anything else is a path beside the kubeconfig.
        command=str(fields.path("command")) if os.sep in command else command,
        args=fields.texts("args"),
        env=tuple((one.text("name"), one.text("value")) for one in fields.objects("env")),
        api_version=version,
        install_hint=fields.text("installHint"),
        provide_cluster_info=fields.flag("provideClusterInfo"),
    )
    if any(not name for name, _ in plugin.env):
        raise ValueError(f'"env" of {fields.where} has an entry without a name')
    if unknown := fields.unread():
        raise ValueError(f"{fields.where} has a field that is not understood: {', '.join(sorted(unknown))}")
    return plugin


def _named(trees: Iterable["_Fields"], many: str, one: str, name: str) -> "_Fields":
    for tree in trees:
        found = [entry for entry in tree.objects(many) if entry.text("name") == name]
        if len(found) > 1:
            raise ValueError(f'{tree.where} has two {many} called "{name}"')
        if found:
            return _Fields(found[0].value(one), f'{one} "{name}"', tree.folder)
    raise ValueError(f'the kubeconfig has no {one} called "{name}"')


class _Fields:
    """One object of a kubeconfig. Its values are checked as they are read; a null counts as absent."""

    def __init__(self, tree: Any, where: str, folder: Path) -> None:
        if not isinstance(tree, Mapping | None):
            raise ValueError(f"{where} is not an object")
        self.where = where
        self.folder = folder  # where relative paths begin
        self._tree = {key: value for key, value in (tree or {}).items() if value is not None}
        self._read: set[str] = set()

    def names(self) -> list[str]:
        return [self._checked(name, str, "a text") for name in self._tree]

    def unread(self) -> set[str]:
        return {str(name) for name in self._tree} - self._read

    def value(self, name: str) -> Any:
        self._read.add(name)
        return self._tree.get(name)

    def text(self, name: str) -> str:
        return str(self._checked(self._tree.get(name, ""), str, "a text", name))

    def flag(self, name: str) -> bool:
        return bool(self._checked(self._tree.get(name, False), bool, "true or false", name))

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._checked(self._tree.get(name, []), list, "a list", name)
        return tuple(self._checked(value, str, "a list of texts", name) for value in values)

    def fields(self, name: str) -> "_Fields":
        self._read.add(name)
        return _Fields(self._tree.get(name), f'"{name}" of {self.where}', self.folder)

    def objects(self, name: str) -> list["_Fields"]:
        values = self._checked(self._tree.get(name, []), list, "a list", name)
        return [_Fields(value, f'an entry of "{name}" of {self.where}', self.folder) for value in values]

    def path(self, name: str) -> Path | None:
        return self.folder / text if (text := self.text(name)) else None

    def pem(self, name: str) -> Pem:
        file, data = self.path(name), self.text(f"{name}-data")
        if not data:
            return file
        try:
            return base64.b64decode("".join(data.split()), validate=True)
        except binascii.Error:
            raise ValueError(f'"{name}-data" of {self.where} is not base64') from None

    def _checked(self, value: Any, kind: type, what: str, name: str = "") -> Any:
        self._read.add(name)
        if not isinstance(value, kind):
            raise ValueError(f'"{name or value}" of {self.where} is not {what}')
        return value


def _escaped(key: str) -> str:
    return "".join(chr(byte) if chr(byte) in _TOKEN else f"%{byte:02X}" for byte in key.encode())
