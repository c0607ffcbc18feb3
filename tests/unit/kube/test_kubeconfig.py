"""Kubeconfigs of every shape: what client-go reads is kept, what cannot be kept is refused by its name."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from yarl import URL

from noah.kube.kubeconfig import Impersonation, KubeconfigCluster, KubeconfigUser, choose, files_of

CASE = """
users:
- name: u
  user:
    client-certificate: admin.crt
    client-key: admin.key
    as: system:serviceaccount:kube-system:nobody
"""


def tree(user: Any = None, cluster: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://a:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
        **more,
    }


def chosen(*trees: Any, context: str | None = None) -> tuple[KubeconfigCluster, KubeconfigUser]:
    return choose([(Path(f"/folder{number}/config"), one) for number, one in enumerate(trees)], context)


def user_of(**fields: Any) -> KubeconfigUser:
    return chosen(tree(fields))[1]


def test_the_user_to_act_as_is_kept() -> None:
    given = {**tree(), **yaml.safe_load(CASE)}
    _, user = chosen(given)
    assert user.certificate == Path("/folder0/admin.crt")
    assert user.impersonation is not None
    assert user.impersonation.headers() == [("Impersonate-User", "system:serviceaccount:kube-system:nobody")]


def test_all_that_is_claimed_of_the_user_to_act_as_is_in_the_headers() -> None:
    user = user_of(
        **{
            "as": "jane",
            "as-uid": "42",
            "as-groups": ["dev", "ops"],
            "as-user-extra": {"scopes": ["a", "b"], "example.com/ä b%": ["c"]},
        }
    )
    assert user.impersonation is not None
    assert user.impersonation.headers() == [
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "42"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Extra-scopes", "a"),
        ("Impersonate-Extra-scopes", "b"),
        ("Impersonate-Extra-example.com%2F%C3%A4%20b%25", "c"),
    ]


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ({"as-groups": ["system:masters"]}, '"as-groups".* without "as"'),
        ({"as-uid": "1"}, '"as-uid".* without "as"'),
        ({"as-user-extra": {"a": ["b"]}}, '"as-user-extra" without "as"'),
        ({"as": "", "as-groups": ["x"]}, 'without "as"'),
        ({"as": ["jane"]}, '"as" of user "u" is not a text'),
        ({"as": 7}, '"as" of user "u" is not a text'),
        ({"as": "a\r\nAuthorization: b"}, '"as" of user "u" does not fit into a header'),
        ({"as": "a", "as-groups": ["b\n"]}, "Impersonate-Group has a control character"),
        ({"as": "a", "as-groups": "b"}, '"as-groups" of user "u" is not a list'),
        ({"as": "a", "as-user-extra": {"b": "c"}}, '"b" of "as-user-extra" of user "u" is not a list'),
        ({"act-as": "jane"}, "a field that is not understood: act-as"),
        ({"As": "jane"}, "a field that is not understood: As"),
        ({"auth-provider": {"name": "oidc"}}, '"auth-provider" of user "u" is not supported'),
        ({"token": "a", "username": "b", "password": "c"}, 'both a token and "username"'),
        ({"tokenFile": "a", "password": "c"}, 'both a token and "username"'),
        ({"token": 12345}, '"token" of user "u" is not a text'),
        ({"client-certificate": "a.crt"}, 'only one of "client-certificate" and "client-key"'),
        ({"client-key-data": "YQ=="}, 'only one of "client-certificate" and "client-key"'),
        ({"client-certificate-data": "%%%", "client-key-data": "YQ=="}, '"client-certificate-data".* is not base64'),
        ("admin", 'user "u" is not an object'),
        ({"exec": {"command": "a"}}, '"apiVersion" of "exec" of user "u" is \'\''),
        ({"exec": {"command": "a", "apiVersion": "client.authentication.k8s.io/v1alpha1"}}, "v1alpha1"),
        ({"exec": {"command": "a", "apiVersion": "client.authentication.k8s.io/v1"}}, "\"interactiveMode\".* is ''"),
        (
            {
                "exec": {
                    "command": "a",
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "interactiveMode": "Always",
                }
            },
            '"interactiveMode" of "exec" of user "u" is Always',
        ),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}, 'no "command"'),
        (
            {"exec": {"command": "a", "apiVersion": "client.authentication.k8s.io/v1beta1", "env": [{"value": "x"}]}},
            "an entry without a name",
        ),
        ({"exec": {"command": "a", "apiVersion": "client.authentication.k8s.io/v1beta1", "sudo": True}}, "sudo"),
    ],
)
def test_a_field_of_a_user_that_cannot_be_honoured_is_refused_by_its_name(user: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        chosen(tree(user))


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        ({"server": "a:6443"}, '"server" of cluster "c" is not an http or https URL'),
        ({"server": "https://admin:secret@a"}, '"server" of cluster "c"'),
        ({"proxy-url": "ftp://a"}, '"proxy-url" of cluster "c"'),
        ({"proxy-url": "a:8080"}, '"proxy-url" of cluster "c"'),
        ({"insecure-skip-tls-verify": "true"}, '"insecure-skip-tls-verify" of cluster "c" is not true or false'),
        ({"insecure-skip-tls-verify": True, "certificate-authority": "ca.crt"}, 'both "insecure-skip-tls-verify"'),
        ({"insecure-skip-tls-verify": True, "certificate-authority-data": "YQ=="}, 'both "insecure-skip-tls-verify"'),
        ({"certificate-authority-data": "no base64!"}, '"certificate-authority-data" of cluster "c" is not base64'),
        ({"disable-compression": 1}, '"disable-compression" of cluster "c" is not true or false'),
    ],
)
def test_a_field_of_a_cluster_that_cannot_be_honoured_is_refused_by_its_name(cluster: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        chosen(tree(None, cluster))


def test_every_field_of_a_cluster_is_kept() -> None:
    cluster, _ = chosen(
        tree(
            None,
            {
                "server": "https://a:6443/k8s/?x=1",
                "tls-server-name": "b",
                "certificate-authority": "ca.crt",
                "certificate-authority-data": base64.b64encode(b"pem").decode(),
                "proxy-url": "socks5://u:p@proxy:1080",
                "disable-compression": True,
                "extensions": [
                    {"name": "other", "extension": {"audience": "no"}},
                    {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "yes"}},
                ],
            },
        )
    )
    assert cluster == KubeconfigCluster(
        server=URL("https://a:6443/k8s"),
        tls_server_name="b",
        ca=b"pem",  # data counts more than a file
        proxy=URL("socks5://u:p@proxy:1080"),
        disable_compression=True,
        exec_config={"audience": "yes"},
    )


def test_a_plugin_is_found_beside_its_kubeconfig_or_in_the_path() -> None:
    for command, found in (("aws", "aws"), ("./bin/login", "/folder0/bin/login"), ("/opt/login", "/opt/login")):
        plugin = user_of(
            exec={
                "apiVersion": "client.authentication.k8s.io/v1beta1",
                "command": command,
                "args": None,
                "env": [{"name": "A", "value": "b"}],
                "installHint": "install it",
                "provideClusterInfo": True,
            }
        ).plugin
        assert plugin is not None
        assert (plugin.command, plugin.args, plugin.env) == (found, (), (("A", "b"),))
        assert plugin.provide_cluster_info
        assert plugin.install_hint == "install it"


def test_no_credentials_go_over_a_connection_without_tls_but_the_user_to_act_as_does() -> None:
    _, user = chosen(tree({"token": "secret", "as": "jane"}, {"server": "http://a"}))
    assert user == KubeconfigUser(impersonation=Impersonation("jane"))


def test_of_several_files_the_first_that_names_something_wins_wholly() -> None:
    first = {
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
        "contexts": [{"name": "there", "context": {"cluster": "c", "user": "nobody"}}],
        "current-context": "",
    }
    second = tree({"tokenFile": "other", "as": "jane"}, {"certificate-authority": "ca.crt"})
    third = tree({"token": "x"}, {"server": "https://third"}, **{"current-context": "there"})
    cluster, user = chosen(first, second, third)
    assert (cluster.server, cluster.ca) == (URL("https://a:6443"), Path("/folder1/ca.crt"))
    assert user == KubeconfigUser(token_file=Path("/folder0/token")), "nothing of the second file's user is mixed in"
    with pytest.raises(ValueError, match='no user called "nobody"'):
        chosen(first, second, third, context="there")


def test_a_name_that_stands_twice_in_a_file_is_refused() -> None:
    twice = tree()
    twice["users"] = [{"name": "u", "user": {"as": "jane"}}, {"name": "u", "user": {}}]
    with pytest.raises(ValueError, match='two users called "u"'):
        chosen(twice)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "no current-context"),
        ([], "is not an object"),
        ({"current-context": "x"}, 'no context called "x"'),
        (tree(clusters=[]), 'no cluster called "c"'),
        (tree(users=None), 'no user called "u"'),
        (tree(contexts=[{"name": "here", "context": {"user": "u"}}]), "names no cluster"),
        (tree(apiVersion="v2"), "not of kind Config and apiVersion v1"),
        (tree(kind="Pod"), "not of kind Config and apiVersion v1"),
    ],
)
def test_a_file_that_is_not_a_kubeconfig_is_refused(given: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        chosen(given)


def test_a_context_without_a_user_is_anonymous() -> None:
    _, user = chosen(tree(contexts=[{"name": "here", "context": {"cluster": "c"}}]))
    assert user == KubeconfigUser()


def test_several_files_are_named_as_in_the_variable_kubeconfig(tmp_path: Path) -> None:
    assert files_of(Path(f"{tmp_path}/a:{tmp_path}/b::{tmp_path}/a")) == [tmp_path / "a", tmp_path / "b"]
    (tmp_path / "a:b").touch()
    assert files_of(tmp_path / "a:b") == [tmp_path / "a:b"]
