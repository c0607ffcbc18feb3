"""Clusters come, go and change with the configuration, while debuggers are attached in them."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from noah.demo.debugger import jdb
from tests.cluster.conftest import Kubectl
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
