"""Clusters that files of a folder and Secrets declare, and what is said of those that cannot be used."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from noah.errors import Unavailable
from noah.kube.access import Way
from noah.kube.cluster_sources import ClusterSources
from noah.kube.clusters import Cluster
from noah.settings import ClusterSettings, Settings, parse_settings

CA = base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode()


def kubeconfig(server: str = "https://one:6443") -> str:
    return json.dumps(
        {
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": server}}],
            "users": [{"name": "it", "user": {"token": "t"}}],
        }
    )


def secret(name: str, *, config: Any, server: str = "https://two:6443", **more: str) -> dict[str, Any]:
    texts = {"name": name, "server": server, "config": config if isinstance(config, str) else json.dumps(config)}
    data = {key: base64.b64encode(text.encode()).decode() for key, text in {**texts, **more}.items()}
    return {"metadata": {"name": f"cluster-{name}"}, "data": data}


class Holding:
    """A cluster that answers with Secrets, or not at all."""

    def __init__(self, *secrets: dict[str, Any]) -> None:
        self.secrets: list[dict[str, Any]] | None = list(secrets)

    async def get(self, path: str, *, params: Mapping[str, str]) -> dict[str, Any]:
        if self.secrets is None:
            raise Unavailable("It does not answer.")
        assert (path, params["labelSelector"]) == ("/api/v1/namespaces/noah/secrets", "debug.noah/cluster=true")
        begins = int(params.get("continue", "0"))
        rest = {"continue": str(begins + 1)} if begins + 1 < len(self.secrets) else {}
        return {"items": self.secrets[begins : begins + 1], "metadata": rest}


def settings(**parts: Any) -> Settings:
    return parse_settings({"clusters": [{"name": "own", "in_cluster": True}], **parts}, origin="FILE")


def with_secrets(**options: Any) -> Settings:
    return settings(cluster_secrets=[{"cluster": "own", "namespace": "noah", **options}])


def sources(holding: Holding | None = None) -> ClusterSources:
    return ClusterSources(cast(Mapping[str, Cluster], {} if holding is None else {"own": holding}))


async def test_files_of_a_folder_are_clusters_that_come_and_go(tmp_path: Path) -> None:
    known = sources()
    wanted = settings(cluster_folders=[{"folder": str(tmp_path), "reach": "api-server"}])
    (tmp_path / "Team A.yaml").write_text(kubeconfig())
    (tmp_path / ".hidden").write_text("nonsense")
    found, troubles = await known.read(wanted)
    assert [(one.name, one.reach) for one in found] == [("own", "pod"), ("team-a", "api-server")]
    assert (list(troubles), known.is_complete) == ([], True)
    (tmp_path / "Team A.yaml").unlink()
    (tmp_path / "b.yaml").write_text(kubeconfig())
    assert [one.name for one in (await known.read(wanted))[0]] == ["own", "b"]


async def test_a_file_that_is_broken_keeps_its_cluster_and_is_named(tmp_path: Path) -> None:
    known, wanted = sources(), settings(cluster_folders=[{"folder": str(tmp_path)}])
    (tmp_path / "a.yaml").write_text(kubeconfig())
    before, _ = await known.read(wanted)
    (tmp_path / "a.yaml").write_text("clusters: [")
    (tmp_path / "never-good.yaml").write_text("[]")
    for _ in range(2):
        found, troubles = await known.read(wanted)
        assert found == before
        assert [f"{tmp_path}/a.yaml cannot be used" in troubles[0], "never-good.yaml" in troubles[1]] == [True, True]


async def test_a_folder_that_is_not_there_keeps_its_clusters(tmp_path: Path) -> None:
    known, folder = sources(), tmp_path / "clusters"
    wanted = settings(cluster_folders=[{"folder": str(folder)}])
    _, [trouble] = await known.read(wanted)
    assert (f"{folder} cannot be read" in trouble, known.is_complete) == (True, False)
    folder.mkdir()
    (folder / "a").write_text(kubeconfig())
    before, _ = await known.read(wanted)
    folder.rename(tmp_path / "elsewhere")
    found, troubles = await known.read(wanted)
    assert (found, len(troubles), known.is_complete) == (before, 1, True)


@pytest.mark.parametrize(
    ("config", "header"),
    [
        ({"bearerToken": "abc"}, ("Authorization", "Bearer abc")),
        ({"username": "u", "password": "p"}, ("Authorization", "Basic dTpw")),
    ],
)
async def test_a_secret_as_those_of_argo_cd_is_a_cluster(config: dict[str, Any], header: tuple[str, str]) -> None:
    tls = {"insecure": True, "serverName": "inside"}
    holding = Holding(
        secret("other", config={"bearerToken": "x"}),
        secret("prod.example.com", config={**config, "tlsClientConfig": tls}, namespaces="a, b"),
    )
    found, troubles = await sources(holding).read(with_secrets(reach="api-server"))
    assert not troubles
    one = found[-1]
    assert (one.name, one.namespaces, one.reach) == ("prod.example.com", ("a", "b"), "api-server")
    access = await Way(one).access()
    assert (str(access.base), access.headers, access.server_name) == ("https://two:6443", (header,), "inside")
    assert "abc" not in repr(found)


async def test_the_cluster_that_argo_cd_runs_in_is_the_gateways_own() -> None:
    found, _ = await sources(Holding(secret("in", config={}, server="https://kubernetes.default.svc"))).read(
        with_secrets()
    )
    assert found[-1] == ClusterSettings(name="in", in_cluster=True)


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        (secret("x", config={"execProviderConfig": {"command": "sh"}}), "execProviderConfig would have the gateway"),
        (secret("x", config={"awsAuthConfig": {"clusterName": "c"}}), "awsAuthConfig would have the gateway run"),
        (secret("x", config="{"), "its config is not JSON"),
        (secret("x", config=[]), "its config is not an object"),
        (secret("x", config={}, server="ftp://two"), "is not an http or https URL"),
        (secret("///", config={}), "its name is not one that a cluster can have"),
        (secret("x", config={"bearerToken": "a", "username": "b"}), "has both a token"),
        (secret("x", config={"tlsClientConfig": {"caData": CA, "insecure": True}}), "has both"),
        (secret("own", config={}), "there is another cluster called own"),
    ],
)
async def test_a_secret_that_cannot_be_used_is_named(declared: dict[str, Any], sentence: str) -> None:
    found, [trouble] = await sources(Holding(declared)).read(with_secrets())
    assert [one.name for one in found] == ["own"]
    assert trouble.startswith(f"Secret noah/{declared['metadata']['name']} ")
    assert sentence in trouble


async def test_secrets_that_cannot_be_read_keep_their_clusters() -> None:
    holding = Holding(secret("a", config={"bearerToken": "t"}))
    known, wanted = sources(holding), with_secrets()
    before, _ = await known.read(wanted)
    holding.secrets = None
    found, [trouble] = await known.read(wanted)
    assert (found, "It does not answer." in trouble, known.is_complete) == (before, True, True)
    holding.secrets = [secret("a", config="{")]
    assert (await known.read(wanted))[0] == before
    holding.secrets = []
    assert [one.name for one in (await known.read(wanted))[0]] == ["own"]
