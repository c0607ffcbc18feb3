"""Clusters come, go and change with the configuration, while debuggers are attached in them."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noah.demo.debugger import jdb
from tests.cluster.conftest import Kubectl, flattened, until
from tests.cluster.proxies import path_proxy
from tests.following import Following
from tests.gateway import serving

pytestmark = [pytest.mark.cluster, pytest.mark.jvm]


def cluster(name: str, kubeconfig: Path, *, reach: str = "pod") -> str:
    return f'[[clusters]]\nname = "{name}"\nkubeconfig = "{kubeconfig}"\nreach = "{reach}"\n'


async def socats(kubectl: Kubectl, pod: str) -> list[str]:
    """The command lines of socats in *pod* that are not zombies."""
    lines = (await asyncio.to_thread(kubectl, "exec", pod, "--", "ps", "-eo", "stat,args")).splitlines()
    return [line for line in lines if " socat " in line and not line.startswith("Z")]


async def test_no_debugger_is_cut_when_its_cluster_changes_or_another_one_goes(
    tmp_path: Path,
    kubeconfig: Path,
    second_kubeconfig: Path,
    kubectl: Kubectl,
    make_namespace: Callable[[Path], Kubectl],
) -> None:
    second = make_namespace(second_kubeconfig)
    for where, name in ((kubectl, "near"), (kubectl, "far"), (second, "gone")):
        await asyncio.to_thread(where.run, name)
    near, far = f"pod/near/{kubectl.namespace}/near/app", f"pod/far/{kubectl.namespace}/far/app"
    gone = f"pod/gone/{second.namespace}/gone/app"
    async with serving(tmp_path, "") as (process, api):
        following = Following(process, api)
        following.write(
            cluster("near", kubeconfig)
            + cluster("far", kubeconfig, reach="api-server")
            + cluster("gone", second_kubeconfig)
        )
        await following.until_names(lambda names: {near, far, gone} <= names)
        first, second_session, ends = [await api.ready(target) for target in (near, far, gone)]
        async with (
            jdb(first["host"], first["port"]) as one,
            jdb(second_session["host"], second_session["port"]) as other,
            jdb(ends["host"], ends["port"]) as cut,
        ):
            was = {
                session["id"]: (await api.until(session, "attached"))["attached"]
                for session in (first, second_session, ends)
            }
            elsewhere = tmp_path / "kubeconfig"
            shutil.copy(kubeconfig, elsewhere)
            following.write(cluster("near", elsewhere) + cluster("far", elsewhere, reach="api-server"))
            ended = await api.until(ends, "ended")
            assert (ended["end_reason"], ended["end_detail"]) == (
                "target_gone",
                "The configuration does not have cluster gone any more.",
            )
            async with asyncio.timeout(30):
                await cut.ended()
            assert await socats(second, "gone") == []
            assert not any(name.startswith("pod/gone/") for name in await following.names())
            await following.until_log("cluster near: closed")
            for session, debugger in ((first, one), (second_session, other)):
                debugger.type("threads")
                await debugger.says("main")
                assert (await api.until(session, "attached"))["attached"] == was[session["id"]]
        for session in (first, second_session):
            assert (await api.end(session))["end_reason"] == "closed"
        assert await socats(kubectl, "near") == await socats(kubectl, "far") == []


def declared_as_in_argo_cd(name: str, kubeconfig: Path) -> dict[str, Any]:
    """A Secret that says the same as *kubeconfig*."""
    there, user = flattened(kubeconfig)
    tls = {"caData": there.get("certificate-authority-data"), "serverName": there.get("tls-server-name")}
    tls |= {"certData": user.get("client-certificate-data"), "keyData": user.get("client-key-data")}
    config = {"bearerToken": user.get("token"), "tlsClientConfig": {key: one for key, one in tls.items() if one}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"argocd.argoproj.io/secret-type": "cluster"}},
        "stringData": {"name": name, "server": there["server"], "config": json.dumps(config)},
    }


async def test_clusters_of_a_folder_and_of_secrets_come_and_go(
    tmp_path: Path, kubeconfig: Path, second_kubeconfig: Path, kubectl: Kubectl
) -> None:
    folder = tmp_path / "clusters"
    folder.mkdir()
    config = (
        cluster("own", kubeconfig)
        + f'[[cluster_folders]]\nfolder = "{folder}"\n'
        + f'[[cluster_secrets]]\ncluster = "own"\nnamespace = "{kubectl.namespace}"\n'
        + 'label = "argocd.argoproj.io/secret-type=cluster"\n'
    )
    async with serving(tmp_path, config) as (process, api):
        following = Following(process, api)

        async def clusters(*names: str) -> None:
            async with asyncio.timeout(60):
                while True:
                    items = (await api.ask("GET", "clusters"))["items"]
                    if sorted(one["name"] for one in items if one["reachable"]) == sorted(names):
                        break
                    await asyncio.sleep(0.2)

        await clusters("own")
        shutil.copy(second_kubeconfig, folder / "filed.conf")
        await asyncio.to_thread(kubectl.apply, declared_as_in_argo_cd("declared", second_kubeconfig))
        await clusters("own", "filed", "declared")
        broken = {**declared_as_in_argo_cd("declared", second_kubeconfig), "stringData": {"config": "{"}}
        await asyncio.to_thread(kubectl.apply, broken)
        (folder / "half.conf").write_text("clusters: [")
        await following.until_configuration(lambda check: not check["ok"])
        await following.until_log(f"Secret {kubectl.namespace}/declared cannot be used: its config is not JSON.")
        await following.until_log(f"The kubeconfig {folder}/half.conf cannot be used:")
        await clusters("own", "filed", "declared")
        await asyncio.to_thread(kubectl, "delete", "secret", "declared")
        (folder / "half.conf").unlink()
        (folder / "filed.conf").unlink()
        await clusters("own")
        await following.until_configuration(lambda check: check["ok"])


async def test_no_debugger_is_cut_when_the_secret_of_its_cluster_has_another_token(
    tmp_path: Path, kubeconfig: Path, kubectl: Kubectl
) -> None:
    await asyncio.to_thread(kubectl.run, "orders")
    there = flattened(kubeconfig)[0]
    tls = {"caData": there["certificate-authority-data"], "serverName": there.get("tls-server-name", "")}

    def declare(token: str) -> None:
        declared = declared_as_in_argo_cd("declared", kubeconfig)
        config = json.dumps({"bearerToken": token, "tlsClientConfig": tls})
        kubectl.apply({**declared, "stringData": {**declared["stringData"], "config": config}})

    await asyncio.to_thread(declare, await asyncio.to_thread(token_of, kubectl, "rotated"))
    config = cluster("own", kubeconfig) + (
        f'namespaces = ["{kubectl.namespace}"]\n[[cluster_secrets]]\ncluster = "own"\n'
        f'namespace = "{kubectl.namespace}"\nlabel = "argocd.argoproj.io/secret-type=cluster"\n'
        f'namespaces = ["{kubectl.namespace}"]\nreach = "api-server"\n'
    )
    async with serving(tmp_path, config) as (process, api):
        following = Following(process, api)
        target = f"pod/declared/{kubectl.namespace}/orders/app"
        await following.until_names(lambda names: target in names)
        session = await api.ready(target)
        async with jdb(session["host"], session["port"]) as debugger:
            was = (await api.until(session, "attached"))["attached"]
            await asyncio.to_thread(declare, await asyncio.to_thread(kubectl, "create", "token", "rotated"))
            await following.until_log("cluster declared: reachable", times=2)
            debugger.type("threads")
            await debugger.says("main")
            assert (await api.until(session, "attached"))["attached"] == was
        assert (await api.end(session))["end_reason"] == "closed"
        await following.until_log("cluster declared: closed")
        assert await socats(kubectl, "orders") == []


async def test_a_name_that_means_another_cluster_from_now_on_ends_its_sessions(
    tmp_path: Path, kubeconfig: Path, second_kubeconfig: Path, kubectl: Kubectl
) -> None:
    """The other cluster has a pod of the same name, which is not the one that is debugged."""
    twin = Kubectl(second_kubeconfig, kubectl.namespace)
    await asyncio.to_thread(twin, "create", "namespace", twin.namespace)
    try:
        await asyncio.to_thread(until, lambda: "default" in twin("get", "serviceaccounts", "-o", "name"))
        for where in (kubectl, twin):
            await asyncio.to_thread(where.run, "twin")
        async with serving(tmp_path, "") as (process, api):
            following = Following(process, api)
            following.write(cluster("it", kubeconfig))
            target = f"pod/it/{kubectl.namespace}/twin/app"
            await following.until_names(lambda names: target in names)
            session = await api.ready(target)
            async with jdb(session["host"], session["port"]) as debugger:
                await api.until(session, "attached")
                following.write(cluster("it", second_kubeconfig))
                ended = await api.until(session, "ended")
                assert ended["end_detail"] == "By the configuration, it is another cluster than before."
                async with asyncio.timeout(30):
                    await debugger.ended()
            assert (await api.ready(target))["id"] != session["id"]
    finally:
        await asyncio.to_thread(twin, "delete", "namespace", twin.namespace, "--wait=false")


async def test_a_cluster_that_is_gone_and_does_not_answer_holds_no_session_up(
    tmp_path: Path, kubeconfig: Path, kubectl: Kubectl
) -> None:
    await asyncio.to_thread(kubectl.run, "left")
    async with serving(tmp_path, "") as (process, api):
        following = Following(process, api)
        server = flattened(kubeconfig)[0]["server"]
        token = await asyncio.to_thread(token_of, kubectl)
        (tmp_path / "token").write_text(token)
        async with path_proxy("/way", to=server) as url:
            following.write(
                f'[[clusters]]\nname = "it"\nurl = "{url}"\ntoken_file = "{tmp_path / "token"}"\n'
                f'namespaces = ["{kubectl.namespace}"]\n'
            )
            target = f"pod/it/{kubectl.namespace}/left/app"
            await following.until_names(lambda names: target in names)
            session = await api.ready(target)
        following.write("")
        ended = await api.until(session, "ended")
        assert ended["end_reason"] == "target_gone"
        assert await following.names() == set()


def token_of(kubectl: Kubectl, account: str = "gateway") -> str:
    """A token of a ServiceAccount that may do everything in the namespace."""
    kubectl("create", "serviceaccount", account)
    subject = f"{kubectl.namespace}:{account}"
    kubectl("create", "rolebinding", account, "--clusterrole=admin", f"--serviceaccount={subject}")
    return kubectl("create", "token", account).strip()
