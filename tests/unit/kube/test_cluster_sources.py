"""Clusters that files of a folder and Secrets declare, and what is said of those that cannot be used."""

import asyncio
import base64
import json
import os
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
    own = [{"name": "own", "in_cluster": True}]
    return parse_settings({"clusters": own, **parts}, origin="FILE")


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
    assert not known.is_complete  # before they are in force
    known.in_force()
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


@pytest.mark.parametrize("becomes", ["fifo", "dangling", "loop", "huge", "deep", "locked"])
async def test_a_file_that_becomes_something_else_keeps_its_cluster_and_holds_nobody_up(
    tmp_path: Path, becomes: str
) -> None:
    folder = tmp_path / "clusters"
    folder.mkdir()
    (folder / "cache").mkdir()
    file = folder / "a.yaml"
    file.write_text(kubeconfig())
    known, wanted = sources(), settings(cluster_folders=[{"folder": str(folder)}])
    before, _ = await known.read(wanted)
    file.unlink()
    match becomes:
        case "fifo":
            os.mkfifo(file)
        case "dangling":
            file.symlink_to(tmp_path / "nowhere")
        case "loop":
            file.symlink_to(file)
        case "huge":
            file.write_text(kubeconfig() + " " * (1 << 20))
        case "deep":
            file.write_text("[" * 100_000)
        case "locked":
            file.symlink_to("/proc/self/mem")  # which root cannot read from its beginning either
    for _ in range(2):
        async with asyncio.timeout(10):
            found, [trouble] = await known.read(wanted)
        assert found == before
        assert trouble.startswith(f"The kubeconfig {file} cannot be used: ")
    file.unlink()
    file.write_text(kubeconfig())
    assert await known.read(wanted) == (before, [])


async def test_a_kubeconfig_that_leads_elsewhere_is_another_cluster_and_one_with_another_token_is_not(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "clusters"
    folder.mkdir()
    one, other = tmp_path / "one.yaml", folder / "two.yaml"
    one.write_text(kubeconfig())
    other.write_text(kubeconfig())
    known = sources()
    clusters = [{"name": "own", "kubeconfig": str(one)}]
    wanted = settings(clusters=clusters, cluster_folders=[{"folder": str(folder)}])
    before, _ = await known.read(wanted)
    for file in (one, other):
        file.write_text(kubeconfig().replace('"t"', '"another"'))
    assert (await known.read(wanted))[0] == before
    one.write_text("")
    assert (await known.read(wanted))[0] == before
    for file in (one, other):
        file.write_text(kubeconfig("https://elsewhere:6443"))
    found, _ = await known.read(wanted)
    assert [one.name for one in found] == ["own", "two"]
    assert not any(now == then for now, then in zip(found, before, strict=True))


async def test_more_files_than_a_folder_may_have_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / f"c{number:04}").write_text("")
    found, troubles = await sources().read(settings(cluster_folders=[{"folder": str(tmp_path)}]))
    assert (len(found), "more than 1000 files" in troubles[0]) == (1, True)


@pytest.mark.parametrize(
    "page", [{"items": [], "metadata": {"continue": "again"}}, {"items": [secret("a", config={})] * 1001}]
)
async def test_secrets_without_end_are_not_read(page: dict[str, Any]) -> None:
    class Endless(Holding):
        async def get(self, path: str, *, params: Mapping[str, str]) -> dict[str, Any]:
            return page

    found, [trouble] = await sources(Endless()).read(with_secrets())
    assert ([one.name for one in found], "more than 1000" in trouble) == (["own"], True)


@pytest.mark.parametrize("page", [{}, {"items": 1, "metadata": []}, {"items": [1, {}, {"data": [], "metadata": 2}]}])
async def test_an_answer_that_is_not_a_list_of_secrets_breaks_nothing(page: dict[str, Any]) -> None:
    class Strange(Holding):
        async def get(self, path: str, *, params: Mapping[str, str]) -> dict[str, Any]:
            return page

    found, _ = await sources(Strange()).read(with_secrets())
    assert [one.name for one in found] == ["own"]


async def test_a_secret_that_has_not_changed_is_not_read_again() -> None:
    declared = secret("a", config={"bearerToken": "t"})
    declared["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    holding = Holding(declared)
    known = sources(holding)
    [_, first], _ = await known.read(with_secrets())
    [_, again], _ = await known.read(with_secrets())
    assert again is first
    declared["metadata"]["resourceVersion"] = "2"
    [_, changed], _ = await known.read(with_secrets(reach="api-server"))
    assert changed.reach == "api-server"


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
    known.in_force()
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
        (secret("x", config="[" * 100_000), "its config is not JSON"),
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
    known.in_force()
    assert (found, "It does not answer." in trouble, known.is_complete) == (before, True, True)
    holding.secrets = [secret("a", config="{")]
    assert (await known.read(wanted))[0] == before
    holding.secrets = []
    assert [one.name for one in (await known.read(wanted))[0]] == ["own"]
